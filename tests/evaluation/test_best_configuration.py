from __future__ import annotations

import json
from pathlib import Path

import pytest

from samnet.cli.find_best_configuration import main
from samnet.evaluation.summary import CaseScores, Protocol, read_summary, summarize, write_summary

NAME = "Dataset501_Tiny"
PROTOCOL = Protocol({"background": 0, "ball": 1})


@pytest.fixture
def results(folders: dict[str, Path], make_dataset: object) -> Path:
    """Three cases in three folds; `lora` has Dice 0.6, 0.8, 0.7, `frozen` 0.9, 0.5, 0.4."""
    from samnet.cli.plan import main as plan

    make_dataset(folders["raw"], num_cases=3)  # type: ignore[operator]
    assert plan(["-d", "501", "-np", "0", "--device", "cpu"]) == 0
    for configuration, dice in (("lora", (0.6, 0.8, 0.7)), ("frozen", (0.9, 0.5, 0.4))):
        for fold, value in enumerate(dice):
            scores = {
                "IoU": 0.5,
                "HD95": 1.0,
                "ASSD": 1.0,
                "NSD": 0.5,
                "TP": 1,
                "FP": 1,
                "FN": 1,
                "TN": 1,
            }
            file = Path(f"case_{fold:02d}.nii.gz")
            case = CaseScores(
                f"case_{fold:02d}",
                file,
                file,
                {1: {"Dice": value, "n_pred": 1, "n_ref": 1, **scores}},
            )
            path = (
                folders["results"]
                / NAME
                / configuration
                / f"fold_{fold}"
                / "validation"
                / "summary.json"
            )
            write_summary(summarize([case], PROTOCOL), path)
    return folders["results"] / NAME


def test_every_case_counts_once_and_the_best_mean_is_chosen(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["501"]) == 0
    printed = capsys.readouterr().out
    assert f"samnet_predict -d {NAME} -c lora" in printed
    record = json.loads((results / "best_configuration.json").read_text())
    assert record["best"] == "lora"
    assert record["Dice"] == pytest.approx({"frozen": 0.6, "lora": 0.7})
    merged = read_summary(results / "lora" / "cross_validation.json")
    assert [case["case"] for case in merged["metric_per_case"]] == ["case_00", "case_01", "case_02"]
    assert merged["foreground_mean"]["Dice"] == pytest.approx(0.7)
    assert merged["std"][1]["Dice"] == pytest.approx(0.1)
    assert len((results / "lora" / "cross_validation.csv").read_text().splitlines()) == 4


def test_a_fold_that_is_missing_is_named_and_nothing_is_written(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = results / "frozen" / "fold_2" / "validation" / "summary.json"
    missing.unlink()
    assert main(["501", "-c", "lora", "frozen"]) == 2
    assert str(missing) in capsys.readouterr().err
    assert not (results / "best_configuration.json").exists()
    assert main(["501"]) == 0  # of those that are complete
    assert json.loads((results / "best_configuration.json").read_text())["Dice"].keys() == {"lora"}


def test_scores_by_different_rules_are_not_mixed(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = results / "lora" / "fold_1" / "validation" / "summary.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"nsd_tolerance": 3.0}))
    assert main(["501", "-c", "lora"]) == 2
    assert "has another nsd_tolerance" in capsys.readouterr().err
