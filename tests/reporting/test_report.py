"""The page of a report: what it says, and what it survives."""

from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.reports import AWKWARD, shift, write_model, write_predictions, write_run
from builders.tiny import make_configuration, make_plan, use_folders

from samnet.cli.main import main
from samnet.confidence.calibration import Expectation
from samnet.confidence.files import record_confidence
from samnet.dataset.images import read_labels, write_labels
from samnet.evaluation.policies import EMPTY_SLICES, VOLUME_METRICS
from samnet.models.model_folder import ModelFolder


def make_page(*words: object) -> str:
    """Run the command in this process, and return the page that it writes to the last word."""
    assert main(["report", *map(str, words[:-1]), "-np", "0", "-o", str(words[-1])]) == 0
    return Path(str(words[-1])).read_text(encoding="utf-8")


def words_of(page: str) -> str:
    """Return what a reader sees, in one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def stacks_of(page: str) -> dict[str, Any]:
    """Return name of a case -> what the script reads of its slices."""
    pattern = r'<h3 id="title-\d+">(.*?)</h3>.*?id="slices-\d+">(.*?)</script>'
    found = re.findall(pattern, page, re.DOTALL)
    return {html.unescape(name): json.loads(content) for name, content in found}


def order_of(page: str) -> list[str]:
    """Return the names of the cases in the order of the table."""
    rows = re.findall(r'<th scope="row">(?:<a [^>]*>)?(case_\d+)', page)
    return [html.unescape(row) for row in rows]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set and its model, for all tests of this file."""
    root = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        use_folders(root, root / "results", patch)
        write_model(root / "raw", root / "results")
    return root


@pytest.fixture
def shared(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    """Return the model of all tests, not to be changed."""
    use_folders(root, root / "results", monkeypatch)
    return ModelFolder(root / "results" / "Dataset501_Tiny" / "lora")


@pytest.fixture
def model(shared: ModelFolder, tmp_path: Path) -> ModelFolder:
    """Return a copy of the model, for changes."""
    return ModelFolder(shutil.copytree(shared.path, tmp_path / "lora"))


@pytest.fixture
def page(shared: ModelFolder, tmp_path: Path) -> str:
    return make_page("-d", 501, "-c", "lora", tmp_path / "report.html")


def test_the_page_of_a_model_begins_with_how_good_it_is(page: str) -> None:
    text = words_of(page)
    glance = text[: text.index("All cases")]
    assert re.search(r"mean Dice over the classes 0\.\d{3} \(95 % interval 0\.\d{3} to ", glance)
    assert "6 scored cases: the held-out cases of 2 folds." in glance
    assert "case_05 is the worst case" in glance
    assert order_of(page)[0] == "case_05"
    assert order_of(page)[-1] == "case_00"


def test_the_page_of_a_model_has_all_parts(page: str) -> None:
    text = words_of(page)
    for part in ("Scores", "Agreement of volumes", "Training data", "Plan", "Training", "mL"):
        assert part in text
    assert "not a medical device" in text
    assert "What is missing" not in text
    # The curves of both folds, one of them a single dot, and the reasons of the plan.
    assert "Runs of a single epoch are a dot." in text
    assert "for a test" in text


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    addresses = re.findall(r'(?:src|href|action|data)="([^"]*)"', page)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page


def test_names_are_shown_as_they_are(page: str) -> None:
    assert AWKWARD not in page
    assert AWKWARD in words_of(page)
    assert "Übergang" in page


def test_the_page_of_2d_images_has_their_words(folders: dict[str, Path], tmp_path: Path) -> None:
    plan = make_plan(make_configuration(backbone="small", mirror_axes=(1, 2)))
    run = ModelFolder(folders["results"] / "Dataset501_Tiny" / "lora").run("0")
    write_run(run, replace(plan, file_ending=".png"), 2)
    text = words_of(make_page("-m", run, tmp_path / "report.html"))
    assert "top-bottom and left-right" in text
    assert "Images in a step" in text
    assert "on whole images of held-out cases" in text
    assert "front-back" not in text
    assert "whole volumes" not in text


@pytest.mark.parametrize(
    ("steps", "patience", "is_warned"), [(100, 0, True), (60, 0, False), (100, 1, False)]
)
def test_the_page_says_how_many_of_the_planned_steps_were_done(
    folders: dict[str, Path], tmp_path: Path, steps: int, patience: int, is_warned: bool
) -> None:
    plan = make_plan(make_configuration(backbone="small", steps=steps, patience=patience))
    run = ModelFolder(folders["results"] / "Dataset501_Tiny" / "lora").run("0")
    write_run(run, plan, 3)
    text = words_of(make_page("-m", run, tmp_path / "report.html"))
    assert f"Training steps 30 of {steps} planned" in text
    warning = f"fold 0 trained for 30 of {steps} planned steps: a longer run is likely better."
    assert (warning in text[: text.index("All cases")]) == is_warned


def test_a_fold_is_reported_alone(shared: ModelFolder, tmp_path: Path) -> None:
    page = make_page("-m", shared, "-f", 1, tmp_path / "report.html")
    assert sorted(order_of(page)) == ["case_01", "case_03", "case_05"]
    alone = make_page("-m", shared.run("1"), tmp_path / "alone.html")
    assert sorted(order_of(alone)) == ["case_01", "case_03", "case_05"]
    assert "the held-out cases of fold 1" in words_of(alone)


def test_a_fold_without_scores_is_named(model: ModelFolder, tmp_path: Path) -> None:
    (model.run("0").validation / "summary.json").unlink()
    (model.run("1").validation / "summary.json").write_text("{")
    page = make_page("-m", model, tmp_path / "report.html")
    text = words_of(page)
    assert "fold_0 has no scores of held-out cases." in text
    assert "The scores of fold_1 cannot be read" in text
    assert "Agreement" not in text


def test_a_model_without_its_data_has_scores_and_no_slices(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = write_model(folders["raw"], folders["results"])
    for name in ("raw", "preprocessed"):
        folders[name].rename(tmp_path / f"moved_{name}")
        folders[name].mkdir()
    text = words_of(make_page("-m", model, tmp_path / "report.html"))
    assert "6 scored cases" in text
    assert "The images are not on this machine" in text
    assert "The references of 6 scored cases are not where they were" in text
    assert "largest error" not in text


def delete_scores(model: ModelFolder, *names: str) -> None:
    """Delete scores from the summaries of both folds, which had the volumes before their unit."""
    for fold in ("0", "1"):
        file = model.run(fold).validation / "summary.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        if "volume_pred" in names:
            del content["volume_unit"]
        for case in content["metric_per_case"]:
            for scores in case["metrics"].values():
                for name in names:
                    del scores[name]
        file.write_text(json.dumps(content))


def test_volumes_of_older_summaries_are_in_ml_too(
    model: ModelFolder, page: str, tmp_path: Path
) -> None:
    assert words_of(page).count("on empty slices (mL)") == 3  # of each class, and of all
    delete_scores(model, EMPTY_SLICES)
    newer = make_page("-m", model, tmp_path / "newer.html")
    delete_scores(model, *VOLUME_METRICS)
    older = make_page("-m", model, tmp_path / "older.html")
    pattern = re.compile(r"<tbody>.*?</tbody>", re.DOTALL)
    assert pattern.findall(older)[1] == pattern.findall(newer)[1]
    assert "on empty slices" not in older + newer


def test_a_model_that_was_never_validated_has_a_page(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = ModelFolder(folders["results"] / "Dataset501_Tiny" / "lora")
    write_run(model.run("all"), make_plan(make_configuration(backbone="small")), epochs=0)
    text = words_of(make_page("-m", model, tmp_path / "report.html"))
    assert "fold_all has no scores of held-out cases." in text
    assert "There are no cases." in text


def test_slices_begin_at_the_largest_error(tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path, num_cases=1, shape=(30, 24, 20))
    prediction = dataset / "preds" / "case_00.nii.gz"
    shift(dataset / "labelsTr" / "case_00.nii.gz", prediction, 0)
    add_box(prediction, slice(20, 23))
    words = ("-p", dataset / "preds", "-r", dataset / "labelsTr", "-i", dataset / "imagesTr")
    page = make_page(*words, tmp_path / "report.html")
    stack = stacks_of(page)["case_00"]
    shown = stack["slices"][stack["first"]]
    # The middle of three slices, counted from 1.
    assert shown["position"].startswith("22 of 30")
    assert shown["errors"]


def add_box(file: Path, slices: slice) -> None:
    """Write a box of foreground into a label map."""
    image = read_labels(file)
    labels = image.array[0].copy()
    labels[slices, 2:12, 2:12] = 1
    write_labels(labels, image, file)


def test_damaged_files_are_named_and_end_nothing(tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path, num_cases=5)
    images, predictions = dataset / "imagesTr", dataset / "preds"
    (images / "case_04_0000.nii.gz").write_bytes(b"damaged")
    (images / "case_03_0000.nii.gz").unlink()
    (predictions / "case_02.nii.gz").write_bytes(b"damaged")
    words = ("-p", predictions, "-r", dataset / "labelsTr", "-i", images)
    page = make_page(*words, tmp_path / "report.html")
    text = words_of(page)
    assert "The slices of case_04 are not shown" in text
    assert "No image was found of case_03: no slices are shown." in text
    assert text.count("case_02 has no results") == 1
    assert sorted(stacks_of(page)) == ["case_00", "case_01"]
    assert "4 scored cases" in text


def test_predictions_without_references_are_measured(tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path, num_cases=3)
    page = make_page(
        "-p",
        dataset / "preds",
        "-i",
        dataset / "imagesTr",
        "-d",
        501,
        "--dataset-json",
        dataset / "dataset.json",
        tmp_path / "report.html",
    )
    text = words_of(page)
    assert "3 cases, without scores" in text
    assert "ball, predicted (mL)" in text
    assert "ball, parts" in text
    assert "Dice" not in text
    assert len(stacks_of(page)) == 3


def test_the_least_certain_prediction_is_first_without_references(tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path, num_cases=3)
    for number, dice in enumerate((0.9, 0.4, None)):
        doubtful = dice == 0.4
        reason = "expected 0.40, most cases 0.90" if doubtful else ""
        expected = Expectation(dice, 0.3 if doubtful else None, 0.5, doubtful, reason)
        record_confidence(dataset / "preds", f"case_0{number}", {"ball": expected})
    words = ("-p", dataset / "preds", "-i", dataset / "imagesTr")
    page = make_page(*words, tmp_path / "report.html")
    text = words_of(page)
    assert order_of(page) == ["case_01", "case_00", "case_02"]
    assert next(iter(stacks_of(page))) == "case_01"
    assert "0.40 (0.30 to 0.50)" in text
    assert "ball: expected 0.40, most cases 0.90" in text
    assert "1 case to look at" in text


def test_colour_images_are_counted_in_pixels(tmp_path: Path) -> None:
    dataset = write_predictions(
        tmp_path, num_cases=2, file_ending=".png", channels=("R", "G", "B"), shape=(1, 40, 50)
    )
    words = ("-p", dataset / "preds", "-r", dataset / "labelsTr", "-i", dataset / "imagesTr")
    page = make_page(*words, tmp_path / "report.html")
    text = words_of(page)
    assert "Agreement of areas" in text
    assert "ball, true (pixels)" in text
    assert "mL" not in text
    assert {len(stack["slices"]) for stack in stacks_of(page).values()} == {1}


def test_a_single_case_without_a_class_has_no_interval(tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path, num_cases=1, labels={"background": 0, "a": 1, "b": 2})
    shift_away_label(dataset / "labelsTr" / "case_00.nii.gz")
    shift_away_label(dataset / "preds" / "case_00.nii.gz")
    words = ("-p", dataset / "preds", "-r", dataset / "labelsTr", "-i", dataset / "imagesTr")
    page = make_page(*words, tmp_path / "report.html")
    text = words_of(page)
    assert "nan" not in text.lower()
    assert "not known from a single case" in text
    assert "b : in no case" in text


def shift_away_label(file: Path) -> None:
    """Take label 2 out of a label map."""
    image = read_labels(file)
    write_labels(image.array[0] * (image.array[0] == 1), image, file)


def test_the_number_of_shown_cases_can_be_chosen(shared: ModelFolder, tmp_path: Path) -> None:
    page = make_page("-m", shared, "--viewers", 1, tmp_path / "one.html")
    assert list(stacks_of(page)) == ["case_05"]
    assert stacks_of(make_page("-m", shared, "--viewers", 0, tmp_path / "none.html")) == {}


def test_regions_are_classes_of_their_own(tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path, num_cases=2, labels={"background": 0, "a": 1, "b": 2})
    description = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    description["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}
    description["regions_class_order"] = [1, 2]
    (dataset / "dataset.json").write_text(json.dumps(description))
    words = ("-p", dataset / "preds", "-r", dataset / "labelsTr", "-i", dataset / "imagesTr")
    page = make_page(*words, tmp_path / "report.html")
    settings = json.loads(re.findall(r'id="viewer-settings">(.*?)</script>', page)[0])
    values = {entry["name"]: entry["values"] for entry in settings["classes"]}
    assert values == {"whole": [1, 2], "core": [2]}
    assert "whole, predicted (mL)" in words_of(page)


def test_the_page_is_put_in_the_folder_of_the_model(model: ModelFolder) -> None:
    assert main(["report", "-m", str(model)]) == 0
    assert (model.path / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ("-m {model} -f 7", "has no fold_7"),
        ("-m nowhere", "nowhere: no such model folder"),
        ("-m {model} -i nowhere", "-i goes with the predictions of -p"),
        ("-p {raw} -m {model} -i {raw}", "-m names a model, -p predictions"),
        ("-p {raw}", "-p needs the images"),
        ("-p {raw} -i nowhere -d 501", "holds no label map"),
        ("-m {model} -o {raw}", "is a folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    shared: ModelFolder, root: Path, words: str, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words.format(model=shared, raw=root / "raw" / "Dataset501_Tiny")
    assert main(["report", *given.split(), "-np", "0"]) == 2
    assert finding in capsys.readouterr().err
