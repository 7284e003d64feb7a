from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.data import write_dataset
from builders.dicom import write_series
from builders.tiny import make_configuration, make_model, make_plan, tiny_backbone

from samnet.cli.predict import main
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.hashing import file_sha256
from samnet.dataset.cases import RawDataset
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.training_data import summarize_training_data
from samnet.inference.predicted_with import PREDICTOR_FILE
from samnet.models.model_folder import RunFolder

__all__ = ["tiny_backbone"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained model where samnet looks for it, and a data set of six images.

    The working directory is empty.
    """
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"samnet_{name}", str(tmp_path / name))
    write_dataset(tmp_path / "raw", shape=(4, 20, 24), spacing=(3.0, 1.0, 1.0))
    folder = tmp_path / "results" / "Dataset501_Tiny" / "lora"
    make_model(folder / "fold_0")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def images(model: Path, tmp_path: Path) -> Path:
    return tmp_path / "raw" / "Dataset501_Tiny" / "imagesTr"


def predict(source: Path, *options: str, output: str = "out") -> int:
    return main(["-i", str(source), "-o", output, "--device", "cpu", *options])


def written(output: str = "out") -> list[str]:
    """List what is there, without the files that lie next to all label maps."""
    names = {file.name for file in Path(output).iterdir()}
    return sorted(names - {"dataset.json", PREDICTOR_FILE})


CASES = [f"case_{number:02d}.nii.gz" for number in range(6)]


def test_predict_takes_the_only_model_for_a_folder_of_images(images: Path) -> None:
    assert predict(images) == 0
    assert written() == CASES
    for name in CASES:
        image = nibabel.load(images / name.replace(".nii", "_0000.nii"))
        labels = nibabel.load(Path("out") / name)
        assert labels.shape == image.shape
        assert np.array_equal(labels.affine, image.affine)
        assert set(np.unique(labels.dataobj)) <= {0, 1, 2}


def test_predict_maps_the_uncertainty_on_request(images: Path) -> None:
    assert predict(images, "--uncertainty") == 0
    assert written() == [*CASES, "uncertainty"]
    for name in CASES:
        labels = nibabel.load(Path("out") / name)
        percent = nibabel.load(Path("out") / "uncertainty" / name)
        assert percent.shape == labels.shape
        assert np.array_equal(percent.affine, labels.affine)
        values = np.asarray(percent.dataobj)
        assert 0 < values.max() <= 67  # of three classes, one has a third at least


@pytest.mark.parametrize("name", ["case_03_0000.nii.gz", "patient 7.nii.gz", "scan.v2.nii.gz"])
def test_predict_a_single_file_with_or_without_a_channel_number(images: Path, name: str) -> None:
    source = shutil.copy(images / "case_03_0000.nii.gz", name)
    assert predict(Path(source)) == 0
    assert written() == [name.replace("_0000", "")]


def test_predict_names_what_it_leaves_out(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path("in")
    source.mkdir()
    shutil.copy(images / "case_00_0000.nii.gz", source)
    shutil.copy(images / "case_01_0000.nii.gz", source / "without_number.nii.gz")
    for name in ("notes.txt", "photo.png", "._case_00_0000.nii.gz", ".DS_Store"):
        (source / name).write_text("unrelated")
    (source / "empty").mkdir()
    shutil.copytree(images, source / "more")
    assert predict(source) == 0
    assert written() == ["case_00.nii.gz", "without_number.nii.gz"]
    printed = capsys.readouterr().err
    for name in ("notes.txt", "photo.png", "more"):
        assert f"in: not predicted: {name}: " in printed
    assert printed.count("not predicted: ") == 3
    assert "in: 3 files or folders in it were not predicted" in printed.splitlines()[-1]


def test_predict_does_not_name_its_own_output(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert predict(images, output=str(images / "out")) == 0
    assert "not predicted" not in capsys.readouterr().err


def test_predict_reminds_of_what_it_leaves_out_where_a_case_fails(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "case_02_0000.nii.gz").write_bytes(b"no image")
    (images / "scan.mha").touch()
    assert predict(images) == 1
    assert "1 files or folders in it were not predicted" in capsys.readouterr().err


def test_predict_with_a_model_folder_needs_no_environment_variables(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(model, "shared_model"))
    copied_images = Path(shutil.copytree(images, "images"))
    shutil.rmtree(model.parents[1])
    for name in list(os.environ):
        if name.lower().startswith(("samnet", "nnunet")):
            monkeypatch.delenv(name)
    assert predict(copied_images, "-m", str(copied)) == 0
    assert predict(copied_images, "-m", str(copied / "fold_0"), output="again") == 0
    assert written() == written("again") == CASES
    assert not Path("samnet_data").exists()


def test_predict_chooses_among_models_and_folds_by_flags(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(model.with_name("full") / "fold_all", 1)
    make_model(model / "fold_1", 2)
    assert predict(images) == 2
    printed = capsys.readouterr().err
    assert "-d Dataset501_Tiny -c lora" in printed
    assert "-d Dataset501_Tiny -c full" in printed
    choices = [
        ["-c", "lora", "-f", "0"],
        ["-d", "501", "-c", "lora"],
        ["-c", "full"],
        ["-m", str(model), "-f", "1"],
    ]
    for number, flags in enumerate(choices):
        assert predict(images, *flags, output=f"out{number}") == 0
    maps = [nibabel.load(Path(f"out{number}", CASES[0])).get_fdata() for number in range(4)]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(maps, 2))


def test_predict_in_parts_that_are_disjoint_and_complete(images: Path) -> None:
    for part in range(4):
        assert (
            predict(images, "--num-parts", "4", "--part-id", str(part), output=f"part{part}") == 0
        )
    parts = [written(f"part{part}") for part in range(4)]
    assert sorted(itertools.chain(*parts)) == CASES
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    assert predict(images, "--num-parts", "4", "--part-id", "4") == 2


def test_predict_names_a_bad_case_and_fails(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "case_02_0000.nii.gz").write_bytes(b"no image")
    assert predict(images) == 1
    printed = capsys.readouterr().err
    assert "prediction failed for 1 of 6 cases" in printed
    assert "case_02_0000.nii.gz: cannot be read" in printed
    assert "Traceback" not in printed
    assert written() == [name for name in CASES if name != "case_02.nii.gz"]


def test_predict_fails_only_the_case_with_a_channel_too_many(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(images / "case_00_0000.nii.gz", images / "case_00_0001.nii.gz")
    assert predict(images) == 1
    assert (
        "has the channel number 0001, but the model's channels go from 0000 to 0000 (MRI)"
        in capsys.readouterr().err
    )
    assert written() == CASES[1:]


def test_predict_refuses_a_folder_where_every_case_has_a_channel_too_many(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in list(images.iterdir()):
        shutil.copy(file, images / file.name.replace("_0000", "_0001"))
    assert predict(images) == 2
    assert "6 faults" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("number", [1, 4])
def test_predict_names_a_missing_channel(
    tmp_path: Path, images: Path, number: int, capsys: pytest.CaptureFixture
) -> None:
    plan = make_plan(
        make_configuration(
            channel_layout="pair_mean", intensity=2 * make_configuration().intensity
        ),
        channel_names=("T1", "T2"),
    )
    make_model(tmp_path / "two", plan=plan)
    for name in CASES[number:]:
        shutil.copy(
            images / name.replace(".nii", "_0000.nii"), images / name.replace(".nii", "_0001.nii")
        )
    assert predict(images, "-m", str(tmp_path / "two")) == 1
    assert f"case_{number - 1:02d}_0001.nii.gz: no such file" in capsys.readouterr().err
    assert written() == CASES[number:]


def test_predict_with_and_without_mirroring_and_with_another_checkpoint(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(model / "fold_0", mirror_axes=(1, 2), mirror_at_prediction=True)
    assert predict(images) == 0
    assert predict(images, "--no-mirror", output="plain") == 0
    maps = [nibabel.load(Path(folder) / CASES[0]).get_fdata() for folder in ("out", "plain")]
    assert not np.array_equal(*maps)
    assert predict(images, "--checkpoint", "best") == 2
    assert "Predict without --checkpoint best" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "absent"], "absent: no such model folder"),
        (["-f", "3"], "has no fold_3 (there: fold_0)"),
        (["-d", "77"], "no data set '77'"),
        (["-c", "full"], "no trained model for -c full"),
        (["--device", "tpu"], "--device tpu"),
        (["-i", "nowhere"], "nowhere: no such folder"),
        (["-i", "."], "no image ending in _0000.nii.gz"),
        (["-o", "result.nii.gz"], "has to be a folder"),
    ],
)
def test_predict_refuses_what_it_cannot_predict(
    images: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(images, *options) == 2
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_predict_refuses_and_names_images_unlike_the_training_data(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of six images, one has a header in metres, one is scaled to 0 to 1, and one is thick."""
    fingerprint = extract_fingerprint(RawDataset.load("501"), processes=0)
    data = summarize_training_data(fingerprint, fingerprint.cases)
    assert data is not None
    data.save(RunFolder(model / "fold_0").training_data_file)
    change(images / "case_01_0000.nii.gz", spacing=0.001)
    change(images / "case_02_0000.nii.gz", intensity=1 / 1000)
    change(images / "case_03_0000.nii.gz", spacing=4)
    assert predict(images) == 1
    message = capsys.readouterr().err
    assert "case_01: the image is 0.024 x 0.02 x 0.012 mm in size" in message
    warnings = json.loads(Path("out", "prediction_warnings.json").read_text())["cases"]
    found = {}
    for name, sentences in warnings.items():
        found[name] = [sentence for sentence in sentences if "training images" in sentence]
    assert [name for name, sentences in found.items() if sentences] == ["case_02", "case_03"]
    assert "its intensities are spread over" in found["case_02"][0]
    assert "its spacing is unlike" in found["case_03"][0]
    assert f"case_03: {found['case_03'][0]}" in message
    assert [name for name in written() if name.endswith(".nii.gz")] == [CASES[0], *CASES[2:]]


def change(file: Path, spacing: float = 1.0, intensity: float = 1.0) -> None:
    """Multiply the spacing and the intensities of an image."""
    image = nibabel.load(file)
    array = image.get_fdata(dtype=np.float32) * intensity
    affine = image.affine @ np.diag([spacing, spacing, spacing, 1.0])
    nibabel.save(nibabel.Nifti1Image(array, affine), file)


PROGRAM = """
import sys, time
sys.path.insert(0, {tests!r})
import pytest
from builders.tiny import add_tiny_backbone
add_tiny_backbone(pytest.MonkeyPatch())
from samnet.inference.predictor import Predictor
plain = Predictor.predict_and_check
Predictor.predict_and_check = lambda *values: (time.sleep(0.5), plain(*values))[1]
from samnet.cli.predict import main
sys.exit(main(sys.argv[1:]))
"""


def test_predict_completes_with_continue_after_it_was_killed(images: Path) -> None:
    command = [sys.executable, "-c", PROGRAM.format(tests=str(Path(__file__).parents[1]))]
    process = subprocess.Popen(
        [*command, "-i", str(images), "-o", "out", "--device", "cpu"], stderr=subprocess.DEVNULL
    )
    while not Path("out", CASES[0]).exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = {
        name: Path("out", name).stat().st_mtime_ns for name in CASES if Path("out", name).exists()
    }
    assert 1 <= len(done) < 6
    Path("out", f"{TEMPORARY_PREFIX}01234567-{CASES[5]}").write_bytes(b"cut short")
    assert predict(images, "--continue") == 0
    assert written() == CASES
    assert all(nibabel.load(Path("out", name)).get_fdata().shape == (24, 20, 4) for name in CASES)
    assert all(Path("out", name).stat().st_mtime_ns == date for name, date in done.items())


def test_predict_continues_where_maps_of_the_uncertainty_are_missing(images: Path) -> None:
    assert predict(images) == 0
    assert predict(images, "--uncertainty", "--continue") == 0
    assert sorted(file.name for file in Path("out", "uncertainty").iterdir()) == CASES
    Path("out", "uncertainty", CASES[2]).unlink()
    dates = [Path("out", name).stat().st_mtime_ns for name in CASES]
    assert predict(images, "--uncertainty", "--continue") == 0
    assert Path("out", "uncertainty", CASES[2]).is_file()
    after = [Path("out", name).stat().st_mtime_ns for name in CASES]
    assert [number for number in range(6) if after[number] != dates[number]] == [2]


def test_predict_continues_with_what_other_weights_or_options_made(
    images: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The label maps are made unlike any prediction, so that it shows which are made again."""
    make_model(model / "fold_0", mirror_at_prediction=True)
    assert predict(images) == 0
    for name in CASES:
        Path("out", name).write_bytes(b"made before")

    def made_again() -> list[str]:
        return [name for name in CASES if Path("out", name).read_bytes() != b"made before"]

    assert predict(images, "--continue") == 0
    assert made_again() == []
    assert "other weights" not in capsys.readouterr().err
    assert predict(images / "case_00_0000.nii.gz", "--continue", "--no-mirror") == 0
    assert made_again() == CASES[:1]
    said = capsys.readouterr().err
    assert "predicted again, because other weights or options have made" in said
    assert "out also holds label maps that other weights or options have made" in said
    shutil.rmtree(model)
    make_model(model / "fold_0", seed=1)
    assert predict(images, "--continue") == 0
    assert made_again() == CASES
    predictors = json.loads(Path("out", PREDICTOR_FILE).read_text())["predictors"]
    [[network]] = [predictor["networks"] for predictor in predictors.values()]
    assert network["run"] == "Dataset501_Tiny/lora/fold_0"
    assert network["weights"] == file_sha256(RunFolder(model / "fold_0").checkpoint("final"))


def test_predict_a_folder_of_dicom_series(images: Path) -> None:
    for name in ("anna", "bert"):
        array = np.random.default_rng(0).integers(0, 200, (4, 20, 24))
        write_series(Path("series") / name, array, [(0, 0, 3.0 * index) for index in range(4)])
    assert predict(Path("series")) == 0
    assert written() == ["anna.nii.gz", "bert.nii.gz"]
    assert nibabel.load("out/anna.nii.gz").shape == (24, 20, 4)


def test_predict_continues_where_probabilities_are_missing(images: Path) -> None:
    """The probabilities of a case are written before its label map."""
    assert predict(images) == 0
    Path("out/case_00.nii.gz").write_bytes(b"of before")
    assert predict(images, "--save-probabilities", "--continue") == 0
    probabilities = [name.replace(".nii.gz", ".npz") for name in CASES]
    assert written() == sorted([*CASES, *probabilities])
    for case in CASES:
        labels = np.asarray(nibabel.load(Path("out") / case).dataobj)
        array = np.load(Path("out") / case.replace(".nii.gz", ".npz"))["probabilities"]
        assert array.shape == (3, *labels.shape[::-1])
        assert (array.argmax(0) != labels.T).mean() < 0.01


def test_predict_averages_models_however_they_are_named(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = model.with_name("full")
    make_model(other / "fold_0", 1, views=(0, 1, 2))
    image = images / "case_00_0000.nii.gz"
    choices = [
        ["-m", str(model), str(other)],
        ["-m", str(model), "-m", str(other)],
        ["-c", "lora", "full"],
        ["-d", "501", "-c", "lora", "-c", "full", "-f", "0"],
        ["-c", "lora"],
    ]
    label_maps = []
    for number, flags in enumerate(choices):
        assert predict(image, *flags, output=f"out{number}") == 0
        label_maps.append(np.asarray(nibabel.load(f"out{number}/case_00.nii.gz").dataobj))
    assert all(np.array_equal(labels, label_maps[0]) for labels in label_maps[:4])
    assert not np.array_equal(label_maps[4], label_maps[0])
    assert predict(image, "-m", str(model), str(model)) == 2
    assert "is named twice; name each model once" in capsys.readouterr().err
    assert predict(image, "-m", str(model), "-c", "full") == 2
    assert "-m already names the model" in capsys.readouterr().err


def test_predict_draws_label_maps_in_colour_next_to_them(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(images / "case_00_0000.nii.gz", "--colour") == 0
    assert written() == ["case_00.nii.gz", "colour"]
    assert [file.name for file in Path("out/colour").iterdir()] == ["case_00.png"]
    printed = capsys.readouterr().out
    assert "1 of 1 predictions in colour: out/colour" in printed
    assert " yellow" in printed.partition("outlines: ")[2]


def test_predict_refuses_to_draw_what_it_does_not_write(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(images, "--colour", "--dicom-seg") == 2
    assert "leave out one" in capsys.readouterr().err
