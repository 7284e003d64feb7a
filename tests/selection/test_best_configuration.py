"""The command that compares cross-validations, and chooses a configuration or an ensemble."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.tiny import tiny_backbone
from builders.validated import plan_raw, validate

from samnet.cli.find_best_configuration import main
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.policies import EMPTY_SLICES
from samnet.evaluation.summary_files import read_summary
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.postprocessing.rules import POSTPROCESSING_FILE
from samnet.selection.best_configuration import find_best_configuration

__all__ = ["tiny_backbone"]
NUM_CASES = 5


def exact(number: int, labels: np.ndarray) -> np.ndarray:
    return labels


def nothing(number: int, labels: np.ndarray) -> np.ndarray:
    return np.zeros_like(labels)


def without_a_row(number: int, labels: np.ndarray) -> np.ndarray:
    """Miss some of the ball in every case."""
    labels[:, labels.shape[1] // 2] = 0
    return labels


def one_voxel_off(which: int) -> Callable[[int, np.ndarray], np.ndarray]:
    """Return what makes one of two kinds of mistakes of the same size, each in other cases."""

    def change(number: int, labels: np.ndarray) -> np.ndarray:
        places = np.argwhere(labels == 1)
        count = 3 if number % 2 == which else 2
        labels[tuple(places[:count].T)] = 0
        return labels

    return change


def scattered(number: int, labels: np.ndarray) -> np.ndarray:
    labels[0, 0, number] = 1
    labels[-1, -1, 2 * number] = 1
    return labels


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> PlannedDataset:
    """Return a planned data set of as many folds as cases."""
    make_dataset(folders["raw"], num_cases=NUM_CASES)
    return plan_raw("501")


def read_choice(dataset: PlannedDataset) -> dict:
    return json.loads(dataset.folder.choice_file.read_text(encoding="utf-8"))


def summary_file(dataset: PlannedDataset, configuration: str, fold: int) -> Path:
    run = ModelFolder.of(dataset.folder, configuration).run(str(fold))
    return run.validation / SUMMARY_FILE


def test_find_best_configuration_counts_every_case_once_and_takes_the_better_one(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "lora", exact)
    validate(dataset, "frozen", without_a_row, input_size=16)
    arguments = ["501", "--no-ensembles", "-np", "0"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "best: lora, as it has the highest mean foreground Dice" in printed
    assert f"samnet_predict -d {dataset.name} -c best" in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert main(["-d", *arguments]) == 0
    assert capsys.readouterr().out == printed
    choice = read_choice(dataset)
    assert choice["members"] == ["lora"]
    assert choice["Dice"]["lora"] == 1.0
    below = choice["below_the_highest"]["frozen"]
    assert 0 < below["low"] < below["mean"] == pytest.approx(1 - choice["Dice"]["frozen"])
    merged = read_summary(dataset.folder.results / "lora" / "cross_validation.json")
    names = [case["case"] for case in merged["metric_per_case"]]
    assert names == [f"case_{number:02d}" for number in range(NUM_CASES)]
    table = dataset.folder.results / "lora" / "cross_validation.csv"
    assert len(table.read_text().splitlines()) == 1 + NUM_CASES


def test_find_best_configuration_takes_the_cheaper_one_where_the_difference_is_noise(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "large", one_voxel_off(1), input_size=64)
    validate(dataset, "small", one_voxel_off(0), input_size=16)
    choice = find_best_configuration("501", with_ensembles=False)
    assert (choice.highest.name, choice.best.name) == ("large", "small")
    assert choice.best.cost < choice.highest.cost
    assert "which is within noise, and it computes" in choice.reason
    assert "small" in str(choice)
    assert "<- best" in str(choice)


def test_find_best_configuration_crowns_nothing_that_finds_nothing(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "lora", nothing)
    assert main(["501", "-np", "0"]) == 1
    assert "no configuration of Dataset501_Tiny finds anything" in capsys.readouterr().err
    assert not dataset.folder.choice_file.exists()


def test_find_best_configuration_keeps_postprocessing_with_the_model(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    model = validate(dataset, "lora", scattered)
    assert main(["501", "-np", "0"]) == 0
    printed = capsys.readouterr().out
    rules = json.loads((model.path / POSTPROCESSING_FILE).read_text())
    assert rules["structures"]["ball"]
    assert "postprocessing, which adds" in printed
    assert sorted(rules["weights"]) == [f"fold_{fold}" for fold in range(NUM_CASES)]
    assert read_choice(dataset)["weights"] == rules["weights"]
    validate(dataset, "lora", exact)
    assert main(["501", "-np", "0"]) == 0
    assert not (model.path / POSTPROCESSING_FILE).exists()  # what held for other predictions
    assert "postprocessing: none" in capsys.readouterr().out


def test_find_best_configuration_reads_results_that_were_moved(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else it chooses postprocessing by the label maps of the old place, or finds none there."""
    validate(dataset, "lora", scattered)
    for fold in range(NUM_CASES):
        file = summary_file(dataset, "lora", fold)
        content = json.loads(file.read_text())
        for case in content["metric_per_case"]:
            for key in ("prediction_file", "reference_file"):
                case[key] = str(Path("/moved", Path(case[key]).name))
        file.write_text(json.dumps(content))
    assert main(["501", "-np", "0"]) == 0
    assert "postprocessing, which adds" in capsys.readouterr().out


def test_find_best_configuration_predicts_the_held_out_cases_with_ensembles_of_two(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "lora", without_a_row)
    validate(dataset, "frozen", without_a_row, input_size=16, seed=9)
    choice = find_best_configuration("501", device="cpu")
    assert {candidate.name for candidate in choice.candidates} == {"lora", "frozen", "frozen+lora"}
    pair = next(one for one in choice.candidates if len(one.members) == 2)
    assert pair.case_names() == choice.best.case_names()
    assert pair.cost == pytest.approx(sum(one.cost for one in choice.candidates) - pair.cost)
    folder = dataset.folder.ensemble(["lora", "frozen"])
    labels = sorted((folder / "validation").glob("*.nii.gz"))
    assert len(labels) == NUM_CASES
    written = [file.stat().st_mtime_ns for file in labels]
    find_best_configuration("501", device="cpu")
    assert [file.stat().st_mtime_ns for file in labels] == written
    validate(dataset, "lora", without_a_row, seed=20)  # trained again: other weights
    find_best_configuration("501", device="cpu")
    assert min(file.stat().st_mtime_ns for file in labels) > max(written)


def test_find_best_configuration_compares_some_folds(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "lora", exact)
    missing = summary_file(dataset, "lora", 2)
    missing.unlink()
    assert main(["501", "-c", "lora", "-np", "0"]) == 2
    assert str(missing) in capsys.readouterr().err
    assert not dataset.folder.choice_file.exists()
    assert main(["501", "-np", "0"]) == 2
    printed = capsys.readouterr().err
    assert "samnet_train ... cv trains all folds, and -f compares on some" in printed
    assert "Validated: lora 0 1 3 4" in printed
    assert main(["501", "-f", "0", "1", "-np", "0"]) == 0
    choice = read_choice(dataset)
    assert choice["folds"] == ["0", "1"]
    assert list(choice["Dice"]) == ["lora"]
    assert "best: lora, as no other one was compared" in capsys.readouterr().out
    validate(dataset, "frozen", exact)
    assert main(["501", "-np", "0"]) == 0
    assert "lora: not compared, as it is not validated on fold 2" in capsys.readouterr().err
    assert main(["501", "-f", "7", "-np", "0"]) == 2
    assert "has no fold 7; its folds are 0, 1, 2, 3, 4" in capsys.readouterr().err


def test_find_best_configuration_does_not_mix_scores_by_different_rules(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "lora", exact)
    file = summary_file(dataset, "lora", 1)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"nsd_tolerance": 3.0}))
    assert main(["501", "-np", "0"]) == 2
    assert "has another nsd_tolerance" in capsys.readouterr().err


def test_volumes_of_folds_in_different_units_are_counted_in_voxels(
    dataset: PlannedDataset,
) -> None:
    """As of a fold of images with a spacing, and one in which some images have none."""
    validate(dataset, "lora", exact)
    file = summary_file(dataset, "lora", 1)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"volume_unit": "voxels"}))
    assert main(["501", "-np", "0"]) == 0
    merged = read_summary(ModelFolder.of(dataset.folder, "lora").cross_validation_file)
    assert merged["volume_unit"] == "voxels"
    for case in merged["metric_per_case"]:
        if case["case"] == read_summary(file)["metric_per_case"][0]["case"]:
            continue  # of the changed file, whose volumes are mL in truth
        for scores in case["metrics"].values():
            volumes = [scores[name] for name in ("volume_pred", "volume_ref", EMPTY_SLICES)]
            assert volumes == [scores["n_pred"], scores["n_ref"], 0]


def test_find_best_configuration_compares_the_same_cases_alone(
    dataset: PlannedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(dataset, "lora", exact)
    validate(dataset, "frozen", exact)
    file = summary_file(dataset, "lora", 1)
    content = json.loads(file.read_text())
    content["metric_per_case"][0]["case"] = "another"
    file.write_text(json.dumps(content))
    assert main(["501", "-np", "0"]) == 2
    assert "scored on different cases, such as another" in capsys.readouterr().err


def test_a_class_that_no_case_shows_does_not_decide(dataset: PlannedDataset) -> None:
    validate(dataset, "lora", exact)
    for fold in range(NUM_CASES):
        file = summary_file(dataset, "lora", fold)
        content = json.loads(file.read_text())
        for case in content["metric_per_case"]:
            case["metrics"]["2"] = dict.fromkeys(case["metrics"]["1"], math.nan)
        file.write_text(json.dumps(content | {"labels": content["labels"] | {"other": 2}}))
    assert find_best_configuration("501").best.dice == 1.0
