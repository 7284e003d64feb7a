"""What depends on the value of a key is what its declaration says, key by key."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.tiny import (
    OTHER_VALUES,
    TWO_CLASSES,
    add_tiny_backbone,
    make_configuration,
    make_plan,
)

from samnet.core.errors import UserError
from samnet.core.records import to_json
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import RunFolder
from samnet.plan.configuration import PLAN_KEYS, Configuration, keys_with
from samnet.plan.plan_key import Role
from samnet.planning.planned_step import PlannedStep
from samnet.training.embeddings.key import embeddings_key
from samnet.training.embeddings.variants import VariantReader
from samnet.training.run_record import RunRequest, check_continuation
from samnet.training.slice_reader import SampleSpecification

# Memory keys whose tensors are gone at the peak of a step of `configuration()`, or not in it.
NOT_AT_PEAK = ("channel_layout", "pixel_statistics", "loss", "unlabelled_share")
each_key = pytest.mark.parametrize("key", PLAN_KEYS)


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny_backbone(monkeypatch)


def configuration(**changes: Any) -> Configuration:
    """A tiny configuration with LoRA and stacks, so that the keys of both have an effect.

    Input and batch are large enough that activations make the peak of a training step.
    """
    values = {"encoder_tuning": "lora", "input_size": 128, "batch_size": 6, "depth": 3}
    return make_configuration(**(values | changes))


def changed(key: str) -> Configuration:
    """The tiny configuration with another value of a key."""
    return configuration(**{key: OTHER_VALUES[key]})


def test_other_values_differ_for_every_key() -> None:
    assert list(OTHER_VALUES) == list(PLAN_KEYS)
    for key, value in OTHER_VALUES.items():
        assert getattr(configuration(), key) != value, key


def request(values: Configuration) -> RunRequest:
    """What is requested of a run with a configuration."""
    return RunRequest(
        fold="0",
        training_cases=("a", "b"),
        seed=1,
        max_seconds=None,
        data_key="key",
        configuration=to_json(values),
    )


@each_key
def test_only_resumable_keys_may_change_with_continue(key: str, tmp_path: Path) -> None:
    before, after = request(configuration()), request(changed(key))
    run = RunFolder(tmp_path / "fold_0")
    if Role.RESUMABLE in PLAN_KEYS[key].role:
        check_continuation(run, before, after)
        return
    with pytest.raises(UserError, match=f"--continue: .* began with {key} .*--restart"):
        check_continuation(run, before, after)


@pytest.fixture(scope="module")
def encoder() -> torch.nn.Module:
    return torch.nn.Linear(2, 2)


@each_key
def test_only_embeddings_keys_change_the_key_of_embeddings(
    key: str, encoder: torch.nn.Module
) -> None:
    def key_of(values: Configuration) -> str:
        specification = SampleSpecification(values, TWO_CLASSES, stride=4, seed=0)
        return embeddings_key(encoder, VariantReader([], specification), "float32")[0]

    is_changed = key_of(changed(key)) != key_of(configuration())
    assert is_changed == (Role.EMBEDDINGS in PLAN_KEYS[key].role)


def measure(values: Configuration) -> float:
    """Measure a training step without the results that `measure_step` has kept.

    Results are kept by the memory keys. They would hide the effect of another key. A copy of the
    module starts without any.
    """
    specification = importlib.util.find_spec("samnet.training.dry_run")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.measure_step(PlannedStep(values, 1, 3, False, "cuda"))


@pytest.fixture(scope="module")
def usual_step() -> float:
    """GiB of a training step of the tiny configuration."""
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        return measure(configuration())


@pytest.mark.parametrize("key", [key for key in PLAN_KEYS if key not in keys_with(Role.MEMORY)])
def test_other_keys_than_those_of_memory_do_not_change_a_training_step(
    key: str, usual_step: float
) -> None:
    assert measure(changed(key)) == usual_step


@pytest.mark.parametrize("key", [key for key in keys_with(Role.MEMORY) if key not in NOT_AT_PEAK])
def test_memory_keys_change_a_training_step(key: str, usual_step: float) -> None:
    assert measure(changed(key)) != usual_step


def test_share_of_slices_without_labels_changes_a_training_step_where_they_have_a_weight() -> None:
    one, two = (configuration(unlabelled_weight=1.0, unlabelled_share=share) for share in (1, 2))
    assert measure(two) > 1.2 * measure(one)


@each_key
def test_only_folds_with_the_same_folds_keys_are_averaged(key: str, tmp_path: Path) -> None:
    """The models have no weights: the values are compared before weights are read."""
    runs = [RunFolder(tmp_path / "fold_0"), RunFolder(tmp_path / "fold_1")]
    for run, values in zip(runs, (configuration(), changed(key)), strict=True):
        make_plan(values).save(run.plan_file)
    with pytest.raises(UserError) as caught:
        Predictor.from_runs(runs, device="cpu")
    is_refused = "cannot be averaged" in str(caught.value)
    assert is_refused == (Role.FOLDS in PLAN_KEYS[key].role)
    if is_refused:
        assert f"was trained with {key} " in str(caught.value)
