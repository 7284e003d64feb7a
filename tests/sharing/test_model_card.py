"""The card of a model, and the scores that travel with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.archives import read_archive, set_keys, update_manifest, write_archive
from builders.confidence import fit, held_out_cases
from builders.fingerprint import make_fingerprint
from builders.models import LORA, add_tiny_sam, make_plan
from builders.tiny import add_tiny_backbone, make_model
from builders.validated import plan_raw, validate

from samnet.cli import export_model, install_model, models
from samnet.core.errors import UserError
from samnet.core.records import to_json
from samnet.fingerprint.training_data import summarize_training_data
from samnet.models.base import Base
from samnet.models.model_folder import ModelFolder
from samnet.models.registry import PACKAGED
from samnet.selection.cross_validation import merge_summaries
from samnet.sharing.export import export_model as export_archive
from samnet.sharing.install import install_model as install_model_file
from samnet.sharing.model_card import CardFacts, check_licence, with_front_matter, write_card
from samnet.sharing.model_scores import DiceScore, ModelScores

SCORES = ModelScores(
    1,
    ("fold_0", "fold_1"),
    20,
    8,
    {"liver": DiceScore(0.9123, 0.9, 0.925, 20), "tumour": DiceScore(None, None, None, 0)},
    DiceScore(0.9123, 0.9, 0.925, 20),
)


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CardFacts:
    """What there may be to say of a model."""
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    names = ("Meier^Anna", "Huber^Max", "c")
    fingerprint = make_fingerprint(channels=("CT",), case_names=names, values=(-1000.0, 1500.0))
    return CardFacts(
        plan=make_plan(**LORA),
        folds=("fold_0", "fold_1"),
        base=Base("tiny_sam", "medsam.pth", "a" * 64),
        training_data=summarize_training_data(fingerprint, names),
        scores=SCORES,
        calibration=fit(held_out_cases(20) + held_out_cases(20, "tumour"), "liver", "tumour"),
        postprocessing=("liver: keep the largest component",),
        licence="CC-BY-4.0",
    )


def test_card_says_what_the_model_is(facts: CardFacts) -> None:
    card = write_card(facts, "hf://lab/liver")
    for line in (
        "# Dataset007_Synthetic, lora",
        "A segmentation model of samnet. It labels liver, tumour in images of the channel CT.",
        "| licence | CC-BY-4.0 |",
        "| classes (value in label maps) | liver (1), tumour (2) |",
        f"| base weights | medsam.pth (none of the released files), sha256 `{'a' * 64}` |",
        "| postprocessing | liver: keep the largest component |",
        "samnet_install_model hf://lab/liver",
        'samnet_predict -d 7 -c "lora" -i IMAGES -o MASKS',
        "Each fold was trained on up to 3 cases. Their ranges, from the lowest to the highest:",
        "| spacing head-feet | 3 mm |",
        "| liver | 20 | 0.912 | 0.900 to 0.925 |",
        "| tumour | 0 | - | - |",
        "- No held-out case shows tumour.",
        "- A prediction averages the folds of this archive. The scores are of single folds.",
        "- The scores rest on 8 patients. With fewer than 10, intervals are too narrow.",
    ):
        assert line in card.splitlines()
    assert "**This is not a medical device.**" in card
    assert "## Expected Dice" in card
    assert "Meier" not in card
    assert card == write_card(facts, "hf://lab/liver")


def test_card_of_a_model_of_which_little_is_known(facts: CardFacts) -> None:
    little = CardFacts(facts.plan, ("fold_all",), None, None, None, None)
    card = write_card(little)
    assert "| licence | not stated |" in card
    assert "| base weights | none needed |" in card
    assert "None are known: no held-out cases were scored" in card
    assert "- Its accuracy is not known." in card
    assert "Not recorded in this model." in card
    assert "license" not in with_front_matter(card, little)
    scored = CardFacts(facts.plan, ("fold_all",), None, None, SCORES, None)
    assert "The weights in this archive are others, of which no cases were held" in (
        write_card(scored)
    )


def test_card_of_2d_images_says_height_and_width(facts: CardFacts) -> None:
    fingerprint = make_fingerprint(
        shape=(1, 256, 320), spacing=(1, 1, 1), channels=("R",), file_ending=".png"
    )
    data = summarize_training_data(fingerprint, ["a", "b"])
    scores = replace(SCORES, num_cases=8)
    card = write_card(replace(facts, training_data=data, scores=scores))
    lines = card.splitlines()
    assert "| height | 256 pixels |" in lines
    assert "| width | 320 pixels |" in lines
    assert "Each fold was trained on up to 2 images. Their ranges, from the lowest to" in card
    assert "Dice of 8 held-out images of the same data set" in card
    assert "Intervals are by the bootstrap over images." in lines
    assert "- The scores rest on 8 images. With fewer than 10, intervals are too narrow." in lines
    for word in ("head-feet", "front-back", "left-right", "patients", "scanners"):
        assert word not in card
    without_data = write_card(replace(facts, training_data=None, scores=None))
    assert "scanners" in without_data
    plan = replace(facts.plan, file_ending=".png")
    assert "scanners" not in write_card(replace(facts, plan=plan, training_data=None, scores=None))


def test_card_of_2d_images_of_known_patients_counts_them(facts: CardFacts) -> None:
    plan = replace(facts.plan, file_ending=".png")
    card = write_card(replace(facts, plan=plan, training_data=None))
    assert "Dice of 20 held-out images of 8 patients of the same data set" in card
    assert "Intervals are by the bootstrap over patients." in card


def test_card_says_which_base_comes_with_samnet(facts: CardFacts) -> None:
    small = PACKAGED["small"]
    base = Base("small", small.file_name, small.sha256)
    card = write_card(replace(facts, base=base))
    assert f"| base weights | {small.file_name} (comes with samnet), sha256" in card


def test_card_states_the_steps_done_next_to_those_planned(facts: CardFacts) -> None:
    assert "| training steps | 6 planned |" in write_card(facts)
    assert "| training steps | 2 of 6 planned |" in write_card(replace(facts, steps=(2, 2)))
    assert "| training steps | 2 to 6 of 6 planned |" in write_card(replace(facts, steps=(2, 6)))


def test_steps_travel_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny_backbone(monkeypatch)
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    plan = make_plan(head="linear", input_size=32)
    model = ModelFolder(tmp_path / "model")
    run = model.run("0")
    make_model(run.path, plan=plan)
    fingerprint = make_fingerprint(channels=("CT",))
    data = summarize_training_data(fingerprint, ["a"])
    assert data is not None
    data.save(run.training_data_file)
    run.metrics_file.write_text('{"epoch": 1, "step": 2}\n')
    export_archive(model, tmp_path / "model.zip")
    assert (
        b"| training steps | 2 of 6 planned |"
        in (read_archive(tmp_path / "model.zip")["MODEL_CARD.md"])
    )
    install_model_file(tmp_path / "model.zip")
    installed = ModelFolder(tmp_path / "results" / plan.dataset_name / "lora")
    export_archive(installed, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "model.zip").read_bytes()


def test_names_do_not_change_the_form_of_the_card(facts: CardFacts) -> None:
    name = "a|b <script>\n# c"
    classes = {name: DiceScore(1.0, None, None, 1)}
    scores = ModelScores(1, ("fold_0",), 1, 1, classes, SCORES.foreground)
    card = write_card(CardFacts(facts.plan, ("fold_0",), None, None, scores, None))
    assert r"| a\|b \<script\> \# c | 1 | 1.000 | - |" in card


@pytest.mark.parametrize("licence", ["", "a\nb", 'a"', "a: b", "-x", "x" * 100])
def test_licences_that_cannot_stand_in_a_card(licence: str) -> None:
    with pytest.raises(UserError, match="expected an identifier"):
        check_licence(licence)


@pytest.fixture
def validated(
    folders: dict[str, Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModelFolder:
    """A model of five folds whose held-out cases are scored. Commands run in the test's folder."""
    add_tiny_backbone(monkeypatch)
    monkeypatch.chdir(tmp_path)
    make_dataset(folders["raw"], num_cases=5)

    def without_a_row(number: int, labels: np.ndarray) -> np.ndarray:
        labels[:, labels.shape[1] // 2] = 0
        return labels

    return validate(plan_raw("501"), "lora", without_a_row)


def test_scores_travel_with_a_model(
    validated: ModelFolder,
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = merge_summaries(sorted(validated.path.glob("fold_*/validation/summary.json")))
    dice = summary["foreground_mean"]["Dice"]
    assert 0.5 < dice < 1
    assert export_model.main(["-o", "model.zip"]) == 0
    contents = read_archive(Path("model.zip"))
    card = contents["MODEL_CARD.md"].decode()
    low, high = summary["interval"][1]["Dice"]
    assert f"| ball | 5 | {dice:.3f} | {low:.3f} to {high:.3f} |" in card
    assert "Dice of 5 held-out cases of 5 patients" in card
    for name, content in contents.items():
        assert b"case_0" not in content, name
        assert str(tmp_path).encode() not in content, name

    monkeypatch.setenv("samnet_results", str(tmp_path / "elsewhere"))
    assert install_model.main(["model.zip"]) == 0
    capsys.readouterr()
    assert models.main(["--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["models"]
    assert (listed["dice"], listed["num_cases"]) == (pytest.approx(dice, abs=1e-6), 5)
    assert export_model.main(["-o", "again.zip"]) == 0
    assert Path("again.zip").read_bytes() == Path("model.zip").read_bytes()


def test_model_of_all_cases_shows_the_scores_of_the_cross_validation(
    validated: ModelFolder,
) -> None:
    make_model(validated.run("all").path, plan=validated.run("0").plan)
    assert export_model.main(["-f", "all", "-o", "all.zip"]) == 0
    assert "The weights in this archive are others" in (
        read_archive(Path("all.zip"))["MODEL_CARD.md"].decode()
    )
    assert export_model.main(["-f", "0", "-o", "one.zip"]) == 0
    scores = json.loads(read_archive(Path("one.zip"))["scores.json"])
    assert (scores["folds"], scores["num_cases"]) == (["fold_0"], 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema_version": 2}, "written by another version of samnet"),
        ({"classes": {}}, "is of , the model of liver, tumour"),
        ({"author": "me"}, "unknown key 'author'"),
        ({"folds": ["../x"]}, "names a fold that is none"),
        ({"foreground": {"mean": 7.0, "low": None, "high": None, "num_cases": 1}}, "a Dice that"),
    ],
)
def test_damaged_scores_are_refused(
    archive: Path, results: Path, values: dict[str, object], message: str
) -> None:
    contents = read_archive(archive)
    contents["scores.json"] = json.dumps(to_json(SCORES)).encode()
    update_manifest(contents)
    install_model_file(write_archive(archive, contents))
    set_keys(contents, "scores.json", **values)
    update_manifest(contents)
    with pytest.raises(UserError, match=message):
        install_model_file(write_archive(archive, contents), name="damaged")
    assert len(list(results.rglob("scores.json"))) == 1
