"""The command that summarises cross-validations and chooses a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.planned import CPU
from builders.scores import make_scores

from samnet.cli.find_best_configuration import main
from samnet.dataset.cases import RawDataset
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.evaluator import SUMMARY_FILE
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


def write_fold(dataset: PlannedDataset, configuration: str, fold: int, dice: float) -> None:
    name = f"case_{fold:02d}"
    file = Path(f"{name}.nii.gz")
    case = CaseScores(name, file, file, {1: make_scores(dice)})
    write_summary(summarize([case], PROTOCOL), summary_file(dataset, configuration, fold))


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
