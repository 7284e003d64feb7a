"""What tests must not see of the place they run in: a job, a training run, folders, a desktop."""

from __future__ import annotations

import os

import pytest

from samnet.core.cpu_bfloat16 import VARIABLE

# How variables begin by which schedulers describe a job, and by which processes that train together
# find each other.
_OF_A_JOB = ("SLURM_", "LSB_", "LSF_", "PBS_", "SGE_", "JOB_COMPLETION_INDEX", "KUBERNETES_")
_OF_A_TRAINING = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_", "SAMNET_LAUN")
_OF_THE_USER = ("samnet_", "nnUNet_", "MLFLOW_", "WANDB_")
_OF_A_TERMINAL = ("COMP_", "SSH_", "DISPLAY", "WAYLAND_DISPLAY")


def is_hidden(name: str) -> bool:
    """Tell whether tests must not see an environment variable.

    Args:
        name: The name of the variable.

    Returns:
        Whether samnet would work on other data, for a scheduler or for a desktop because of it.
    """
    return name.startswith((*_OF_A_JOB, *_OF_A_TRAINING, *_OF_THE_USER, *_OF_A_TERMINAL))


def hide_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove such variables, so that a suite that runs within a job behaves as anywhere.

    Nor do tests see whether the CPU has units for bfloat16: those that need it set the variable.

    Args:
        monkeypatch: Restores them in the end.
    """
    for name in list(os.environ):
        if is_hidden(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv(VARIABLE, "0")
