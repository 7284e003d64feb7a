"""Labels of a teacher's output: where it is sure, with a threshold for each class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samnet.training.distributed import SINGLE_PROCESS
from samnet.training.unlabelled.pseudo_labels import LEAST_SURE, SURE, PseudoLabels

CPU = torch.device("cpu")


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """Return logits `(1, K, 1, W)` of the probabilities of W pixels."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


def test_label_is_the_likeliest_class_and_sure_above_the_threshold() -> None:
    labels, is_sure = PseudoLabels(3, False, CPU).label(
        logits_of([[0.96, 0.02, 0.02], [0.04, 0.94, 0.02], [0.01, 0.02, 0.97]])
    )
    assert labels.flatten().tolist() == [0, 1, 2]
    assert is_sure.flatten().tolist() == [True, False, True]


def test_threshold_of_a_class_of_which_the_teacher_is_less_sure_falls() -> None:
    pseudo = PseudoLabels(3, False, CPU)
    assert pseudo.thresholds.tolist() == pytest.approx([SURE] * 3)
    batch = logits_of([[0.99, 0.005, 0.005], [0.2, 0.7, 0.1]])
    for _ in range(600):
        pseudo.learn(batch, SINGLE_PROCESS)
    # Nothing was seen of the third class, so its confidence stays 1, the highest.
    expected = [SURE * 0.99, SURE * 0.7, SURE]
    assert pseudo.thresholds.tolist() == pytest.approx(expected, abs=0.01)
    assert pseudo.label(batch)[1].all()


def test_no_threshold_falls_below_a_half() -> None:
    pseudo = PseudoLabels(4, False, CPU)
    for _ in range(600):
        pseudo.learn(logits_of([[0.4, 0.2, 0.2, 0.2]]), SINGLE_PROCESS)
    assert pseudo.thresholds[0] == LEAST_SURE


def test_regions_are_decided_each_by_itself() -> None:
    logits = torch.tensor([4.0, -4.0, 1.0, -1.0]).reshape(1, 2, 1, 2)
    pseudo = PseudoLabels(2, True, CPU)
    labels, is_sure = pseudo.label(logits)
    assert labels.flatten().tolist() == [1, 0, 1, 0]
    assert is_sure.flatten().tolist() == [True, True, False, False]
    for _ in range(600):
        pseudo.learn(logits, SINGLE_PROCESS)
    assert pseudo.label(logits)[1].all()
