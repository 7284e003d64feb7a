"""What a person is told at the end of samnet_train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.tiny import tiny_backbone
from builders.validated import plan_raw, validate

from samnet.core.tables import WIDTH
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.models.model_folder import ModelFolder
from samnet.training.results import describe_results

__all__ = ["tiny_backbone"]


def missed_in_the_last(number: int, labels: np.ndarray) -> np.ndarray:
    return np.zeros_like(labels) if number == 3 else labels


@pytest.fixture
def model(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> ModelFolder:
    """Return a model of four folds of one case each, of which one is missed."""
    make_dataset(folders["raw"], num_cases=4)
    return validate(plan_raw("501"), "lora", missed_in_the_last)


def test_a_run_ends_with_scores_worst_case_files_and_what_to_type_next(model: ModelFolder) -> None:
    run = next(run for run in model.runs() if (run.validation / "case_03.nii.gz").is_file())
    text = describe_results([run])
    assert text.startswith(f"Dataset501_Tiny, lora, {run.name}: scores of 1 held-out case\n")
    assert text.count("foreground mean") == 2
    assert "empty slices (predicted mL a case where the reference has none)" in text
    assert "case_03" in text
    assert "found in no case, though the reference shows it: ball (docs" in text
    assert f"scores:  {run.validation / SUMMARY_FILE}" in text
    assert "figures:" not in text  # none are there
    assert "report:  samnet_report -d 501 -c lora" in text
    assert text.endswith("predict: samnet_predict -d 501 -c lora -i IMAGES -o OUT")


def test_the_table_of_several_runs_fits_the_screen(model: ModelFolder) -> None:
    for run in model.runs():
        file = run.validation / SUMMARY_FILE
        file.write_text(file.read_text().replace("case_", "a-very-long-name-" * 5))
    lines = describe_results(model.runs()).splitlines()
    rows = [line for line in lines if line.startswith("fold")]
    assert len(rows) == 5
    assert max(map(len, rows)) <= WIDTH


def test_several_runs_end_with_the_dice_of_each(model: ModelFolder) -> None:
    runs = model.runs()
    (runs[0].validation / SUMMARY_FILE).unlink()
    lines = describe_results(runs).splitlines()
    assert lines[0] == "Dataset501_Tiny, lora: 4 folds"
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("fold_")}
    assert list(rows) == [run.name for run in runs]
    assert rows["fold_0"] == ["-", "-", "not", "scored", "yet"]
    scores = sorted(row[1] for name, row in rows.items() if name != "fold_0")
    assert scores[-2:] == ["1.0000", "1.0000"]
    assert "compare: samnet_find_best_configuration 501" in lines


@pytest.mark.parametrize(
    ("fold", "reason"),
    [("all", "no cases are held out"), ("0", "the held-out cases are not scored yet")],
)
def test_a_run_without_scores_says_why(model: ModelFolder, fold: str, reason: str) -> None:
    run = model.run(fold)
    (run.validation / SUMMARY_FILE).unlink(missing_ok=True)
    assert f"no scores, as {reason}" in describe_results([run])


def test_fold_of_a_single_patient_has_no_cases_to_score(model: ModelFolder) -> None:
    """It validates on the cases that it trains on."""
    run = model.run("0")
    (run.validation / SUMMARY_FILE).unlink(missing_ok=True)
    run.metrics_file.write_text('{"epoch": 1, "validated_on": "held-out cases"}\n')
    assert "no scores, as the held-out cases are not scored yet" in describe_results([run])
    run.metrics_file.write_text('{"epoch": 1, "validated_on": "training cases"}\n')
    assert "no scores, as no cases are held out" in describe_results([run])
