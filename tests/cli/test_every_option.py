"""Every option of a command reaches its place: what the command hands to the layer that works."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from samnet.cli.main import main
from samnet.core.files import write_json
from samnet.core.machine import Machine
from samnet.core.worker_pool import default_processes
from samnet.dataset.description import DatasetDescription
from samnet.dataset.mask_rules import MaskRules
from samnet.demo.run import DemoOptions
from samnet.inference.dicom_output import DicomOutput
from samnet.models.model_folder import ModelFolder
from samnet.pretraining.recipe import Recipe
from samnet.sharing.download import DownloadRules
from samnet.sharing.samed import SamedOptions
from samnet.training.kept_measurements import KeptMeasurements
from samnet.training.options import TrainingOptions

ORGANS = DatasetDescription(("CT",), {"background": 0, "liver": 1}, None, ".nii.gz")
Call = Callable[[str, str], tuple[tuple, dict[str, Any]]]


# These take functions of `core.machine` when they are first imported. Within a test they would take
# its stand-ins, and keep them in all later tests.
TAKE_FROM_MACHINE = ("inference.predictor", "planning.plan_dataset", "training.run")


class Called(Exception):
    """Ends a command where it calls another layer; holds the arguments."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command up to its call of a function; return the arguments of that."""
    for name in TAKE_FROM_MACHINE:
        importlib.import_module(f"samnet.{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("samnet.core.machine.choose_device", lambda device: device or "meta")
    monkeypatch.setattr(
        "samnet.core.machine.detect_machine", lambda device: Machine(str(device), 1.0)
    )

    def end(*arguments: Any, **named: Any) -> None:
        raise Called(arguments, named)

    def run(function: str, words: str) -> tuple[tuple, dict[str, Any]]:
        with monkeypatch.context() as patch:
            patch.setattr(f"samnet.{function}", end)
            with pytest.raises(Called) as caught:
                main(words.split())
        arguments, named = caught.value.args
        return arguments, named

    return run


def test_options_of_train(call: Call) -> None:
    function, began = "training.run.train_folds", time.monotonic()
    (*target, options, given), _ = call(function, "train 8 lora")
    assert (target, options) == (["8", "lora", "0"], TrainingOptions())
    assert began <= given <= time.monotonic()

    words = (
        "train 8 lora all --epochs 3 --max-time 2h --lr 0.01 --batch-size 5 --backbone vit_l "
        "--set patience=4 --set batch_size=9 --seed 6 --device cpu --num-cases 7 --from model "
        "--workers 2 --cache-size 20G --save-every 10m --gpus 1 --multiply-batch --continue "
        "--track tensorboard"
    )
    (*target, options, _), _ = call(function, words)
    assert target == ["8", "lora", "all"]
    assert options == TrainingOptions(
        settings={"patience": 4, "batch_size": 5, "learning_rate": 0.01, "backbone": "vit_l"},
        epochs=3,
        max_seconds=7200.0,
        seed=6,
        device="cpu",
        num_cases=7,
        start_from=Path("model"),
        workers=2,
        cache_size=20.0,
        save_seconds=600.0,
        multiply_batch=True,
        resume=True,
        track="tensorboard",
    )

    (*_, options, _), _ = call(
        function, "train 8 lora --steps 30 --num-patients 2 --no-cache --workers 0 --restart"
    )
    assert options == TrainingOptions(
        settings={"steps": 30}, num_patients=2, cache_size=0.0, workers=0, restart=True
    )


def test_train_on_several_gpus_starts_a_process_for_each(call: Call) -> None:
    words = ["8", "lora", "all", "--gpus", "2", "--device", "cpu", "--steps", "3"]
    arguments, _ = call("training.launch.launch", f"train {' '.join(words)}")
    assert arguments == (2, "cpu", ["train", *words])
    arguments, _ = call("training.launch.launch", "train 8 lora --gpus 3")
    assert arguments[:2] == (3, "meta")


def test_options_of_predict_choose_the_model(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def find(*model: Any) -> ModelFolder:
        requested.append(model)
        return ModelFolder(Path("found"))

    monkeypatch.setattr("samnet.inference.find_model.find_model", find)
    function = "inference.ensemble.load_predictor"
    chosen, named = call(function, "predict -i images -o out")
    assert chosen == ([ModelFolder(Path("found"))], None)
    as_planned = {"device": None, "checkpoint": "final", "mirror": None, "postprocess": True}
    assert named == as_planned

    words = "predict -i images -o out -m model -d 8 -c lora -f 0 2 --checkpoint best --no-mirror"
    chosen, named = call(function, f"{words} --device cuda:1 --no-postprocessing")
    assert chosen == ([ModelFolder(Path("found"))], ["0", "2"])
    changed = {"device": "cuda:1", "checkpoint": "best", "mirror": False, "postprocess": False}
    assert named == changed
    assert requested == [(None, None, None), (Path("model"), "8", "lora")]


def test_options_of_predict_choose_the_cases(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = SimpleNamespace(plan=SimpleNamespace(description=ORGANS))
    model = ModelFolder(Path("found"))
    monkeypatch.setattr("samnet.inference.find_model.find_model", lambda *_: model)
    monkeypatch.setattr("samnet.inference.ensemble.load_predictor", lambda *_, **__: predictor)
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / f"{name}_0000.nii.gz").touch()
    function = "inference.files.predict_cases"
    (used, cases, output), named = call(function, "predict -i images -o out")
    assert (used, output) == (predictor, Path("out"))
    assert [case.identifier for case in cases] == ["a", "b", "c"]
    without = {
        "keep_existing": False,
        "dicom_output": None,
        "save_probabilities": False,
        "note_predictor": True,
    }
    assert named == without

    words = "predict -i images -o out --num-parts 2 --part-id 1 --continue"
    (_, cases, _), named = call(function, words)
    assert [case.identifier for case in cases] == ["b"]
    assert named == without | {"keep_existing": True}
    _, named = call(function, "predict -i images -o out --dicom-seg")
    assert named == without | {"dicom_output": DicomOutput.SEGMENTATION}
    _, named = call(function, "predict -i images -o out --dicom-rtstruct")
    assert named == without | {"dicom_output": DicomOutput.STRUCTURE_SET}
    _, named = call(function, "predict -i images -o out --save-probabilities")
    assert named == without | {"save_probabilities": True}


def test_options_of_next(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, model = object(), ModelFolder(Path("found"))
    monkeypatch.setattr("samnet.dataset.dataset_folder.DatasetFolder.find", lambda name: name)
    monkeypatch.setattr("samnet.annotation.pool.Pool.find", lambda *_: pool)
    function, predictions = "annotation.pool.rank_pool", Path("next", "predictions")
    arguments, _ = call(function, "next -d 8 -i images")
    assert arguments == (pool, "random", 0, None, [], predictions)
    arguments, _ = call(function, "next -d 8 -i images --seed 3 --continue")
    assert arguments == (pool, "random", 3, None, [predictions], predictions)

    Path("preds").mkdir()
    monkeypatch.setattr("samnet.inference.find_model.find_model", lambda *_: model)
    words = "next -d 8 -i images --strategy mixed -c lora -f 0 2 --device cpu -p preds -o out"
    chosen, named = call("inference.predictor.Predictor.from_folder", words)
    assert (chosen, named) == ((Path("found"), ["0", "2"]), {"device": "cpu"})
    loaded = "samnet.inference.predictor.Predictor.from_folder"
    monkeypatch.setattr(loaded, lambda *_, **__: "predictor")
    arguments, _ = call(function, f"{words} --continue")
    output = Path("out", "predictions")
    assert arguments == (pool, "mixed", 0, "predictor", [Path("preds"), output], output)


def test_options_of_pretrain(call: Call) -> None:
    (folder, recipe, device, workers), _ = call("pretraining.run.pretrain", "pretrain -o out")
    assert (folder, recipe) == (Path("out"), Recipe(coarse_steps=2273, fine_steps=900))
    assert (str(device), workers) == ("meta", max(1, default_processes() - 1))

    words = "--coarse-steps 3 --fine-steps 4 --batch-size 2 --lr 0.01 --seed 7 --workers 0"
    arguments, _ = call("pretraining.run.pretrain", f"pretrain -o out {words} --device cpu")
    recipe = Recipe(3, 4, seed=7, batch_size=2, learning_rate=0.01)
    assert arguments == (Path("out"), recipe, torch.device("cpu"), 0)
    words = "--sizes 112 160 224 --averaging 0.999 --prototype-weight 2 --spread 1.5"
    (_, recipe, *_), _ = call("pretraining.run.pretrain", f"pretrain -o out {words}")
    assert recipe == Recipe(
        2273, 900, sizes=(112, 160, 224), averaging=0.999, prototype_weight=2, spread=1.5
    )
    for words in ("--coarse-steps 0", "--fine-steps 0"):  # one of the two is enough
        (_, recipe, *_), _ = call("pretraining.run.pretrain", f"pretrain -o out {words}")
        assert recipe.steps in (2273, 900)


def test_options_of_demo(call: Call) -> None:
    (options,), _ = call("demo.run.run_demo", "demo")
    assert options == DemoOptions(Path("demo_output"), 12, 4, 210.0, 0, "cpu")
    words = "demo -o mine --num-training 5 --num-test 3 --max-time 1h --seed 8 --device cuda"
    (options,), _ = call("demo.run.run_demo", words)
    assert options == DemoOptions(Path("mine"), 5, 3, 3600.0, 8, "cuda")


def test_options_of_doctor(call: Call) -> None:
    arguments, _ = call("planning.doctor.examine_dataset", "doctor -d 8 --device cuda -np 3")
    assert arguments == ("8", 3, Machine("cuda", 1.0), KeptMeasurements)
    arguments, _ = call("planning.doctor.examine_dataset", "doctor -d 8")
    assert arguments == ("8", default_processes(), Machine("None", 1.0), KeptMeasurements)


def test_options_of_evaluate(call: Call, tmp_path: Path) -> None:
    for name in ("found", "true"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "dataset.json", ORGANS.as_json())
    function, words = "evaluation.evaluator.evaluate_folder", "evaluate -p found -r true"
    arguments, named = call(function, words)
    assert arguments == (
        *(Path("found"), Path("true"), ORGANS, Path("found")),
        default_processes(),
    )
    assert named == {
        "policy": "standard",
        "nsd_tolerance_mm": 1.0,
        "skip_missing": False,
        "tubes": [],
    }
    options = "--policy synapse_legacy --nsd-tolerance 2.5 --missing skip --cldice a b -np 3 -o out"
    arguments, named = call(function, f"{words} --dataset-json found/dataset.json {options}")
    assert arguments[3:] == (Path("out"), 3)
    assert named == {
        "policy": "synapse_legacy",
        "nsd_tolerance_mm": 2.5,
        "skip_missing": True,
        "tubes": ["a", "b"],
    }


def test_options_of_measure(call: Call, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    write_json(tmp_path / "found" / "dataset.json", ORGANS.as_json())
    function, words = "evaluation.measure_folder.measure_folder", "measure -p found"
    arguments, named = call(function, words)
    assert arguments == (Path("found"), ORGANS, Path("found"), default_processes())
    assert named == {"images": None}
    arguments, named = call(function, f"{words} -i images -o out -np 2")
    assert arguments[2:] == (Path("out"), 2)
    assert named == {"images": Path("images")}


def test_options_of_convert_folder(call: Call) -> None:
    function = "dataset.convert_folder.plan_conversion"
    required = "convert_folder --images scans --masks drawn -d 8 --name Mine"
    arguments, named = call(function, required)
    assert arguments == (Path("scans"), Path("drawn"))
    assert named == {
        "label_names": None,
        "channel_names": None,
        "skip_unmatched": False,
        "rules": MaskRules(),
    }
    _, named = call(
        function,
        f"{required} --labels a b --channels CT PET --mask-suffix _m --channel-suffixes _c _p "
        "--class-suffixes _a _b --overlap last --allow-missing-masks --test-share 0.2",
    )
    assert (named["label_names"], named["channel_names"]) == (["a", "b"], ["CT", "PET"])
    assert named["rules"] == MaskRules(
        suffix="_m",
        test_share=0.2,
        channel_suffixes=("_c", "_p"),
        class_suffixes=("_a", "_b"),
        overlap="last",
        allow_missing_masks=True,
    )
    flags = {"recursive": "--recursive", "binary": "--binary", "nearest": "--nearest"}
    for name, flag in flags.items():
        assert call(function, f"{required} {flag}")[1]["rules"] == MaskRules(**{name: True})
    assert call(function, f"{required} --skip-unmatched")[1]["skip_unmatched"]


def test_options_of_import_samed(call: Call, tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", ORGANS.as_json())
    function = "sharing.samed.import_samed"
    required = "import_samed epoch.pth --dataset-json dataset.json -o out"
    arguments, _ = call(function, required)
    assert arguments == (Path("epoch.pth"), ORGANS, Path("out"), SamedOptions())
    words = (
        "--input-size 224 --frame stretch --axes SPL --window -100 300 --base medsam.pth "
        "--dataset-name Dataset042_Organs"
    )
    (*_, options), _ = call(function, f"{required} {words}")
    assert options == SamedOptions(
        dataset_name="Dataset042_Organs",
        input_size=224,
        frame="stretch",
        orientation="SPL",
        window=(-100.0, 300.0),
        base_file=Path("medsam.pth"),
    )
    (*_, options), _ = call(function, f"{required} --slice-width 192")
    assert options == SamedOptions(frame="scale", slice_width=192.0)


def test_options_of_the_commands_that_share_models(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, _ = call("sharing.samed.export_samed", "export_samed -m model -f 2 -o file.pth")
    assert arguments == (Path("model"), Path("file.pth"), "2")
    arguments, _ = call("sharing.samed.export_samed", "export_samed -m model -o file.pth")
    assert arguments == (Path("model"), Path("file.pth"), None)
    function = "sharing.sources.install_from"
    arguments, named = call(function, "install_model a.zip")
    assert arguments == ("a.zip",)
    assert named == {"name": None, "force": False, "rules": DownloadRules()}
    words = "install_model hf://a/b --name mine --force --sha256 12 --max-size 0.5 --allow-http"
    arguments, named = call(function, words)
    assert arguments == ("hf://a/b",)
    rules = DownloadRules("12", 2**29, allow_http=True)
    assert named == {"name": "mine", "force": True, "rules": rules}
    monkeypatch.setattr("samnet.inference.find_model.find_model", lambda *model: model)
    words = "export_model -o a.zip -m model -d 8 -c lora -f 0 2"
    chosen = (Path("model"), "8", "lora")
    arguments, _ = call("sharing.export.export_model", words)
    assert arguments == (chosen, Path("a.zip"), ["0", "2"], None)
    arguments, _ = call("sharing.export.export_model", f"{words} --license MIT")
    assert arguments == (chosen, Path("a.zip"), ["0", "2"], "MIT")
    function = "sharing.push.push_model"
    arguments, named = call(function, "export_model --push lab/liver")
    assert arguments == ((None, None, None), "lab/liver")
    assert named == {"output": None, "folds": None, "licence": None, "public": False}
    arguments, named = call(function, f"{words} --push lab/liver --public --license MIT")
    assert arguments == (chosen, "lab/liver")
    folds, output = ["0", "2"], Path("a.zip")
    assert named == {"output": output, "folds": folds, "licence": "MIT", "public": True}


def test_options_of_the_commands_that_look_at_runs(call: Call, folders: dict[str, Path]) -> None:
    (folders["results"] / "Dataset008_Organs").mkdir()
    assert call("cluster.status.find_runs", "status -d 8")[0] == ("Dataset008_Organs",)
    assert call("cluster.status.find_runs", "status")[0] == (None,)
    function = "selection.best_configuration.find_best_configuration"
    words = "find_best_configuration -d 8 -np 3"
    chosen, named = call(function, words)
    assert chosen == ("8", [], [])
    assert named == {"with_ensembles": True, "processes": 3, "device": None}
    chosen, named = call(function, f"{words} -c lora full -f 0 2 --no-ensembles --device cpu")
    assert chosen == ("8", ["lora", "full"], ["0", "2"])
    assert named == {"with_ensembles": False, "processes": 3, "device": "cpu"}


def test_options_of_download_checkpoint(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path / "usual"))
    function, words = "models.download.download_checkpoint", "download_checkpoint vit_b"
    (checkpoint, folder), named = call(function, words)
    assert (checkpoint.file_name, folder) == ("sam_vit_b_01ec64.pth", tmp_path / "usual")
    assert named == {"mirror": None}
    (_, folder), named = call(function, f"{words} -o here --mirror http://near")
    assert (folder, named) == (Path("here"), {"mirror": "http://near"})


@pytest.mark.parametrize(("words", "processes"), [("", default_processes()), (" -np 0", 0)])
def test_steps_before_training_take_the_number_of_processes(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: str, processes: int
) -> None:
    monkeypatch.setattr("samnet.dataset.cases.RawDataset.load", lambda identifier: identifier)
    for function, command in (
        ("dataset.integrity.inspect_dataset_by_name", "verify_dataset"),
        ("dataset.integrity.verify_dataset", "plan_and_preprocess"),
        ("fingerprint.extract.extract_fingerprint", "extract_fingerprint"),
        ("planning.plan_dataset.extract_fingerprint", "plan"),
    ):
        assert call(function, f"{command} -d 8{words}")[0] == ("8", processes)
