"""Import of a file of SAMed as a model that predicts, and export as such a file."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.models import LORA, TINY_SAM, add_tiny_sam, make_model, make_plan
from builders.samed_files import samed_logits, write_samed
from builders.tiny_sam import sam_encoder
from torch import Tensor
from torch.nn import functional

from samnet.cli import export_samed, import_samed
from samnet.core.errors import UserError
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.predictor import Predictor
from samnet.models.base import load_base
from samnet.models.model_folder import ALL_CASES, ModelFolder
from samnet.models.registry import CHECKPOINTS
from samnet.plan.configuration import IntensityWindow
from samnet.sharing import samed
from samnet.sharing.samed import SamedOptions

SIZE = 96
CLASSES = LabelScheme({"background": 0, "spleen": 1, "liver": 2})
REGIONS = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
ORGANS = DatasetDescription(("CT",), CLASSES.labels, None, ".nii.gz")
OPTIONS = SamedOptions(
    input_size=SIZE, frame="scale", orientation="patient", slice_width=SIZE * 1.0
)


@pytest.fixture
def sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The released weights of a tiny SAM by SAM's names."""
    return add_tiny_sam(tmp_path / "checkpoints", monkeypatch)


def save(content: dict[str, Tensor], folder: Path) -> Path:
    torch.save(content, folder / "epoch_159.pth")
    return folder / "epoch_159.pth"


def image() -> np.ndarray:
    """Return two slices `(Z, Y, X)` of HU, some beyond SAMed's window."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.uniform(-300, 500, (1, 2, 12, 12)).astype(np.float32))
    return functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")[0].numpy()


@pytest.mark.parametrize("decoder_lora", [False, True], ids=["samed", "samed_s"])
def test_imported_model_predicts_what_samed_does(
    sam: dict[str, Tensor], tmp_path: Path, decoder_lora: bool
) -> None:
    content = write_samed(TINY_SAM, 2, SIZE, decoder_lora=decoder_lora)
    samed.import_samed(save(content, tmp_path), ORGANS, tmp_path / "model", OPTIONS)
    found = Predictor.from_folder(tmp_path / "model", device="cpu").predict(
        image(), orientation="SAR", spacing=(5, 1, 1)
    )

    scaled = torch.from_numpy((np.clip(image(), -125, 275) + 125) / 400)
    inputs = scaled[:, None].repeat(1, 3, 1, 1)
    logits = samed_logits(inputs, content, sam, sam_encoder(TINY_SAM, SIZE), TINY_SAM)
    probabilities = functional.interpolate(logits.softmax(1), (SIZE, SIZE), mode="bilinear")
    expected = probabilities.argmax(1).numpy()
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() > 0.9999
    # SAMed itself enlarges logits, not probabilities: the same except for pixels on the edges.
    enlarged = functional.interpolate(logits, (SIZE, SIZE), mode="bilinear").argmax(1).numpy()
    assert (found == enlarged).mean() > 0.95


@pytest.mark.parametrize(("decoder_lora", "name"), [(False, "samed"), (True, "samed_s")])
def test_import_samed_writes_plan_base_and_description(
    sam: dict[str, Tensor], tmp_path: Path, decoder_lora: bool, name: str
) -> None:
    file = save(write_samed(TINY_SAM, 2, SIZE, decoder_lora=decoder_lora), tmp_path)
    samed.import_samed(file, ORGANS, tmp_path / "model", OPTIONS)
    model = ModelFolder(tmp_path / "model")
    run = model.run(ALL_CASES)
    plan, configuration = run.plan, run.configuration
    assert list(plan.configurations) == [name]
    assert (plan.dataset_name, plan.channel_names) == ("Dataset000_SAMed", ("CT",))
    assert plan.label_scheme == CLASSES
    assert (configuration.lora_rank, configuration.lora_scale) == (4, 1.0)
    assert configuration.lora_targets == ("q", "v")
    assert (configuration.in_plane_spacing, configuration.zoom) == (1.0, 1.0)
    assert configuration.views == (0,)
    assert (configuration.pixel_statistics, configuration.channel_layout) == ("none", "repeat")
    assert not configuration.mirror_at_prediction
    decisions = plan.configurations[name].decisions
    assert decisions["intensity"].rule == "import of a SAMed file"
    assert decisions["steps"].because == "not in SAMed's file; predictions do not depend on it"
    base = load_base(run.base_file)
    assert (base.file_name, base.sha256) == ("sam_tiny.pth", CHECKPOINTS["tiny_sam"].sha256)
    assert DatasetDescription.load(model.description_file) == ORGANS


def test_samed_commands_import_a_file_and_export_it_again(
    sam: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = write_samed(TINY_SAM, 2, SIZE, decoder_lora=True)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "spleen": 1, "liver": 2},
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    model, back = tmp_path / "model", tmp_path / "back.pth"
    options = [
        *("--dataset-json", str(tmp_path / "dataset.json")),
        *("-o", str(model)),
        *("--input-size", str(SIZE)),
        *("--window", "-160", "240"),
        *("--slice-width", "192"),
        *("--dataset-name", "Dataset042_Organs"),
    ]
    assert import_samed.main([str(save(content, tmp_path)), *options]) == 0
    assert f"{model}: samed_s, tiny_sam, 2 classes" in capsys.readouterr().out
    plan = ModelFolder(model).run(ALL_CASES).plan
    configuration = plan.configuration("samed_s")
    [window] = configuration.intensity
    assert (window.lower, window.upper) == (-160.0, 240.0)
    assert configuration.in_plane_spacing == 2.0
    assert plan.dataset_name == "Dataset042_Organs"

    assert export_samed.main(["-m", str(model), "-o", str(back)]) == 0
    written = torch.load(back, weights_only=True)
    assert set(written) == set(content)
    for key in ("w_a_000", "w_b_003", "fati_vb", "cit_a_002", "mask_decoder.mask_tokens.weight"):
        assert torch.equal(written[key], content[key])


def test_import_samed_records_other_weights_as_base(sam: dict[str, Tensor], tmp_path: Path) -> None:
    medsam = tmp_path / "elsewhere" / "medsam.pth"
    medsam.parent.mkdir()
    changed = {key: value * 1.1 for key, value in sam.items()}
    torch.save(changed, medsam)
    content = write_samed(TINY_SAM, 2, SIZE, decoder_lora=False)
    options = dataclasses.replace(OPTIONS, base_file=medsam)
    samed.import_samed(save(content, tmp_path), ORGANS, tmp_path / "model", options)
    network = Predictor.from_folder(tmp_path / "model", device="cpu").networks[0]
    inputs = torch.rand(1, 3, SIZE, SIZE)
    expected = samed_logits(inputs, content, changed, sam_encoder(TINY_SAM, SIZE), TINY_SAM)
    with torch.no_grad():
        found = network(inputs)
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * largest)
    medsam.unlink()
    with pytest.raises(UserError, match=r"was trained on medsam\.pth"):
        Predictor.from_folder(tmp_path / "model", device="cpu")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            DatasetDescription(("CT",), {"background": 0, "liver": 1}, None, ".nii.gz"),
            r"has 2 classes, dataset.json names 1 \(liver\)",
        ),
        (
            DatasetDescription(("T1", "T2"), CLASSES.labels, None, ".nii.gz"),
            "names the channels T1, T2; SAMed's networks see a single one",
        ),
        (
            DatasetDescription(
                ("CT",), REGIONS.labels, None, ".nii.gz", regions_class_order=(1, 2)
            ),
            r"names regions \(whole, core\)",
        ),
    ],
)
def test_import_samed_refuses_a_description_that_does_not_fit(
    sam: dict[str, Tensor], tmp_path: Path, described: DatasetDescription, message: str
) -> None:
    file = save(write_samed(TINY_SAM, 2, SIZE, decoder_lora=False), tmp_path)
    with pytest.raises(UserError, match=message):
        samed.import_samed(file, described, tmp_path / "model", OPTIONS)
    assert not (tmp_path / "model").exists()


def test_import_samed_overwrites_nothing(sam: dict[str, Tensor], tmp_path: Path) -> None:
    file = save(write_samed(TINY_SAM, 2, SIZE, decoder_lora=False), tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    samed.import_samed(file, ORGANS, model, OPTIONS)  # the folder exists, but is empty
    with pytest.raises(UserError, match="is there already; choose another folder with -o"):
        samed.import_samed(file, ORGANS, model, OPTIONS)


def test_import_samed_refuses_code_and_files_that_are_not_samed(
    sam: dict[str, Tensor], tmp_path: Path
) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("harm",))

    torch.save({"w_a_000": Harm()}, tmp_path / "harm.pth")
    of_sam = tmp_path / "checkpoints" / "sam_tiny.pth"
    for file in (tmp_path / "harm.pth", tmp_path / "absent.pth", of_sam):
        with pytest.raises(UserError, match=file.name):
            samed.import_samed(file, ORGANS, tmp_path / "model", OPTIONS)


def test_export_samed_refuses_what_samed_cannot_hold(
    sam: dict[str, Tensor], tmp_path: Path
) -> None:
    plan = make_plan(**LORA, pixel_statistics="none")
    model = make_model(tmp_path / "lora", plan, ("fold_0", "fold_1"))
    with pytest.raises(UserError, match="has fold_0, fold_1; choose one with -f"):
        samed.export_samed(model, tmp_path / "out.pth")
    with pytest.raises(UserError, match="SAMed's files hold"):
        samed.export_samed(model, tmp_path / "out.pth", "1")
    assert not (tmp_path / "out.pth").exists()


def test_export_samed_refuses_a_model_of_regions(sam: dict[str, Tensor], tmp_path: Path) -> None:
    plan = dataclasses.replace(make_plan(**LORA), label_scheme=REGIONS)
    model = make_model(tmp_path / "lora", plan)
    with pytest.raises(UserError, match="was trained on regions"):
        samed.export_samed(model, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


AS_SAMED = {
    **LORA,
    "head": "mask_decoder",
    "pixel_statistics": "none",
    "intensity": (IntensityWindow("fixed", -125, 275),),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_statistics": "sam"}, "SAM's pixel mean and standard deviation.*=none"),
        ({"channel_layout": "neighbours"}, "channel_layout 'neighbours'.*=repeat"),
        ({"depth": 3}, "stacks of 3 slices.*depth=1"),
    ],
    ids=["pixel statistics", "neighbours", "stacks"],
)
def test_export_samed_refuses_a_model_whose_logits_samed_cannot_compute(
    sam: dict[str, Tensor], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    model = make_model(tmp_path / "lora", make_plan(**(AS_SAMED | changes)))
    with pytest.raises(UserError, match=message):
        samed.export_samed(model, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"frame": "stretch", "orientation": "file", "input_size": 512}, []),
        (
            {"frame": "stretch", "orientation": "file"},
            ["--img_size 64"],
        ),
        (
            {"zoom": 0.5, "input_size": 512},
            ["one scale, 2 mm a pixel.*squares of 1024 mm", "turned to the patient's axes"],
        ),
        (
            {"views": (0, 1), "frame": "stretch", "input_size": 512},
            ["slices across several axes were averaged"],
        ),
    ],
    ids=["as SAMed", "size", "scale and axes", "views"],
)
def test_export_samed_says_what_samed_does_otherwise(
    sam: dict[str, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    sentences: list[str],
) -> None:
    model = make_model(tmp_path / "lora", make_plan(**(AS_SAMED | changes)))
    assert export_samed.main(["-m", str(model), "-o", str(tmp_path / "out.pth")]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == len(sentences)
    for note, sentence in zip(notes, sentences, strict=True):
        assert re.search(sentence, note), note


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        (IntensityWindow("fixed", -160, 240), "from -160 to 240 became 0 to 1"),
        (IntensityWindow("percentiles", 0.5, 99.5), "image was scaled by the percentiles 0.5 and"),
        (IntensityWindow("slice_range", 0, 100), "slice was scaled by its lowest and highest"),
    ],
    ids=lambda value: getattr(value, "scheme", ""),
)
def test_export_samed_says_how_images_have_to_be_scaled(
    sam: dict[str, Tensor], tmp_path: Path, window: IntensityWindow, sentence: str
) -> None:
    values = AS_SAMED | {"intensity": (window,), "frame": "stretch", "orientation": "file"}
    model = make_model(tmp_path / "lora", make_plan(**values))
    notes = samed.export_samed(model, tmp_path / "out.pth")
    assert sentence in notes[0]
