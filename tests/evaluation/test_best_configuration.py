"""The command that summarises cross-validations and chooses a configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.planned import CPU
from builders.scores import make_scores

from samnet.cli.find_best_configuration import main
from samnet.dataset.cases import RawDataset
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.best_configuration import find_best_configuration
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.policies import SYNAPSE_LEGACY
from samnet.evaluation.summary import CaseScores, Protocol, summarize
from samnet.evaluation.summary_files import read_summary, write_summary
from samnet.fingerprint.extract import extract_fingerprint
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset, write_splits
from samnet.planning.planner import make_plan

PROTOCOL = Protocol(LabelScheme({"background": 0, "ball": 1}))
DICE = {"lora": (0.6, 0.8, 0.7), "frozen": (0.9, 0.5, 0.4)}


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> PlannedDataset:
    """Return a data set of three cases in three folds, validated with the Dice in `DICE`."""
    make_dataset(folders["raw"], num_cases=3)
    raw = RawDataset.load("501")
    fingerprint = extract_fingerprint(raw, processes=0)
    write_splits(make_plan(fingerprint, CPU), fingerprint, raw.folder)
    dataset = PlannedDataset(raw.folder)
    for configuration, values in DICE.items():
        for fold, dice in enumerate(values):
            write_fold(dataset, configuration, fold, dice)
    return dataset


def write_fold(
    dataset: PlannedDataset,
    configuration: str,
    fold: int,
    dice: float,
    protocol: Protocol = PROTOCOL,
) -> None:
    name = f"case_{fold:02d}"
    file = Path(f"{name}.nii.gz")
    scores = {label: make_scores(dice) for label in protocol.classes}
    summary = summarize([CaseScores(name, file, file, scores)], protocol)
    write_summary(summary, summary_file(dataset, configuration, fold))


def summary_file(dataset: PlannedDataset, configuration: str, fold: int) -> Path:
    run = ModelFolder.of(dataset.folder, configuration).run(str(fold))
    return run.validation / SUMMARY_FILE


def test_find_best_configuration_counts_every_case_once_and_takes_the_best_mean(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["501"]) == 0
    printed = capsys.readouterr().out
    assert f"samnet_predict -d {dataset.name} -c lora" in printed
    assert main(["-d", "501"]) == 0
    assert capsys.readouterr().out == printed
    results = dataset.folder.results
    record = json.loads((results / "best_configuration.json").read_text())
    assert record["best"] == "lora"
    assert record["Dice"] == pytest.approx({"frozen": 0.6, "lora": 0.7})
    merged = read_summary(results / "lora" / "cross_validation.json")
    assert [case["case"] for case in merged["metric_per_case"]] == ["case_00", "case_01", "case_02"]
    assert merged["foreground_mean"]["Dice"] == pytest.approx(0.7)
    assert merged["std"][1]["Dice"] == pytest.approx(0.1)
    assert len((results / "lora" / "cross_validation.csv").read_text().splitlines()) == 4


def test_find_best_configuration_names_a_missing_fold_and_writes_nothing(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = summary_file(dataset, "frozen", 2)
    missing.unlink()
    assert main(["501", "-c", "lora", "frozen"]) == 2
    assert str(missing) in capsys.readouterr().err
    assert not dataset.folder.choice_file.exists()
    assert main(["501"]) == 0  # of those that are complete
    assert json.loads(dataset.folder.choice_file.read_text())["Dice"].keys() == {"lora"}


def test_find_best_configuration_does_not_mix_scores_by_different_rules(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    file = summary_file(dataset, "lora", 1)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"nsd_tolerance": 3.0}))
    assert main(["501", "-c", "lora"]) == 2
    assert "has another nsd_tolerance" in capsys.readouterr().err


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(PROTOCOL.label_scheme, nsd_tolerance=3.0, image_unit="pixels"),
        Protocol(PROTOCOL.label_scheme, policy=SYNAPSE_LEGACY),
        Protocol(LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, (2, 1))),
    ],
    ids=["units", "policy", "regions"],
)
def test_find_best_configuration_keeps_the_rules_and_labels_of_the_folds(
    dataset: PlannedDataset, protocol: Protocol
) -> None:
    for fold, dice in enumerate((0.4, 0.8, 0.6)):
        write_fold(dataset, "other", fold, dice, protocol)
    assert main(["501", "-c", "other"]) == 0
    merged = read_summary(ModelFolder.of(dataset.folder, "other").cross_validation_file)
    of_a_fold = read_summary(summary_file(dataset, "other", 0))
    for key in ("policy", "nsd_tolerance", "distance_unit", "labels"):
        assert merged[key] == of_a_fold[key], key
    assert [merged["mean"][label]["Dice"] for label in protocol.classes] == pytest.approx(
        [0.6] * len(protocol.classes)
    )


def test_find_best_configuration_takes_the_first_of_equals_and_never_an_unknown_score(
    dataset: PlannedDataset,
) -> None:
    for fold in range(3):
        write_fold(dataset, "absent", fold, math.nan)
        write_fold(dataset, "equal", fold, 0.7)
    for configurations, best in (
        (("absent", "lora"), "lora"),
        (("equal", "lora"), "equal"),
        (("lora", "equal"), "lora"),
    ):
        assert find_best_configuration("501", configurations).best == best
