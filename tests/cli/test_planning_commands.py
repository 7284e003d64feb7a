"""The commands before training: what they write, keep, refuse and print."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.broken_input import change, describe

from samnet.cli import (
    doctor,
    extract_fingerprint,
    plan,
    plan_and_preprocess,
    preprocess,
    verify_dataset,
)
from samnet.cli.settings import key_and_value
from samnet.preprocessing.storage import load_case
from samnet.training import dry_run
from samnet.training.dry_run import measure_step

MakeDataset = Callable[..., Path]
NAME = "Dataset501_Tiny"


@pytest.fixture
def dataset(
    make_dataset: MakeDataset, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The raw folder of two cases, on a machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    # Measuring a step takes seconds for each configuration; this is its memory in GiB.
    monkeypatch.setattr(dry_run, "measure_step", lambda *configuration: 0.5)
    return make_dataset(folders["raw"], num_cases=2)


@pytest.fixture
def output(folders: dict[str, Path]) -> Path:
    """The folder into which the steps write."""
    return folders["preprocessed"] / NAME


def run(module: Any, *options: str, dataset: str = "501") -> int:
    return module.main(["-d", dataset, "-np", "0", *options])


def planned(output: Path) -> dict:
    return json.loads((output / "samnetPlans.json").read_text())


def value(output: Path, key: str, configuration: str = "lora") -> Any:
    content = planned(output)
    decisions = content["decisions"] | content["configurations"][configuration]["decisions"]
    return decisions[key]["value"]


def write_plan(output: Path, content: dict) -> None:
    """Write a plan that was edited by hand."""
    (output / "samnetPlans.json").write_text(json.dumps(content))


def break_case(dataset: Path, number: int = 1) -> None:
    (dataset / "imagesTr" / f"case_{number:02d}_0000.nii.gz").write_bytes(b"no image")


class TestVerifyDataset:
    def test_prints_that_there_are_no_faults(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(verify_dataset) == 0
        assert capsys.readouterr().out == f"{NAME}: 2 cases, no faults\n"

    def test_reports_the_faults_of_every_data_set(
        self, dataset: Path, make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = make_dataset(dataset.parent, number=502, num_cases=1)
        make_dataset(dataset.parent, number=503, num_cases=1)
        break_case(dataset)
        (other / "labelsTr" / "case_00.nii.gz").unlink()
        assert verify_dataset.main(["-d", "501", "502", "503", "-np", "0"]) == 2
        printed = capsys.readouterr()
        assert f"{NAME}: 1 fault\n" in printed.err
        assert "case_01_0000.nii.gz: cannot be read" in printed.err
        assert "Dataset502_Tiny: 1 fault\n" in printed.err
        assert printed.out == "Dataset503_Tiny: 1 cases, no faults\n"

    def test_writes_the_report_as_json_too(
        self, dataset: Path, make_dataset: MakeDataset, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        make_dataset(dataset.parent, number=502, num_cases=1)
        break_case(dataset)
        file = tmp_path / "report.json"
        assert verify_dataset.main(["-d", "501", "502", "-np", "0", "--json", str(file)]) == 2
        broken, whole = json.loads(file.read_text())["datasets"]
        (fault,) = broken["faults"]
        assert fault["file"] == str(dataset / "imagesTr" / "case_01_0000.nii.gz")
        assert (fault["kind"], fault["case"]) == ("unreadable image", "case_01")
        assert fault["value"].startswith("cannot be read")
        assert fault["remedy"].startswith("put a whole file")
        assert (whole["dataset_name"], whole["num_cases"], whole["faults"]) == (
            "Dataset502_Tiny",
            1,
            [],
        )
        assert list(folders["preprocessed"].iterdir()) == []

    def test_a_broken_description_hides_no_other_data_set(
        self, dataset: Path, make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_dataset(dataset.parent, number=502, num_cases=1)
        (dataset / "dataset.json").write_text("{")
        assert verify_dataset.main(["-d", "501", "502", "-np", "0"]) == 2
        printed = capsys.readouterr()
        assert "dataset.json: not valid JSON" in printed.err
        assert printed.out == "Dataset502_Tiny: 1 cases, no faults\n"

    def test_fix_maps_masks_and_prints_it(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = dataset / "labelsTr" / "case_01.nii.gz"
        change(file, lambda array: array * np.uint8(255))
        assert run(verify_dataset) == 2
        assert "which samnet_verify_dataset --fix does" in capsys.readouterr().err
        assert run(verify_dataset, "--fix") == 0
        printed = capsys.readouterr().out
        assert f"{file}: mapped 255 to 1 in " in printed
        assert printed.endswith(f"{NAME}: 2 cases, no faults\n")
        assert (dataset / "labelsTr_before_fix" / "case_01.nii.gz").is_file()


class TestDoctor:
    def test_remarks_are_a_success(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        describe(dataset, labels={"background": 0, "ball": 1, "cube": 2})
        assert run(doctor, "--device", "cpu") == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{NAME}: 2 cases, no faults\n  to look at:\n  - ")
        assert "class 'cube' occurs in none of the 2 cases" in printed

    def test_faults_are_a_failure(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        break_case(dataset)
        assert run(doctor, "--device", "cpu") == 2
        assert f"{NAME}: 1 fault\n" in capsys.readouterr().err
        assert not output.exists()


class TestExtractFingerprint:
    def test_prints_the_path_of_the_fingerprint(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(extract_fingerprint) == 0
        assert capsys.readouterr().out == f"{output / 'dataset_fingerprint.json'}\n"
        assert (output / "dataset_fingerprint.json").is_file()

    def test_names_bad_cases_and_fails(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        break_case(dataset)
        assert run(extract_fingerprint) == 1
        assert "failed for 1 of 2 cases" in capsys.readouterr().err

    def test_replaces_a_fingerprint_of_another_version(self, dataset: Path, output: Path) -> None:
        output.mkdir(parents=True)
        (output / "dataset_fingerprint.json").write_text('{"schema_version": 0}')
        assert run(extract_fingerprint) == 0
        assert run(plan) == 0


class TestPlan:
    def test_ends_with_the_decisions_and_the_path_of_the_plan_or_explains_it(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(plan) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{NAME}, planned for ")
        assert str(output / "samnetPlans.json") in printed
        assert "samnet_plan -d 501 --explain" in printed
        assert len(printed.splitlines()) < 25
        assert run(plan, "--explain") == 0
        printed = capsys.readouterr().out
        assert "zoom = " in printed
        assert "because " in printed

    def test_writes_nothing_when_run_again(self, dataset: Path, output: Path) -> None:
        # So little memory that no step is taken to fit before it is measured.
        settings = ("--set", "zoom=3", "--device", "cpu", "--memory", "3G")
        assert run(plan, *settings) == 0
        dates = {file.name: file.stat().st_mtime_ns for file in output.iterdir()}
        assert set(dates) == {
            "dataset_fingerprint.json",
            "raw_files.json",
            "samnetPlans.json",
            "splits_final.json",
            "step_memory.json",
        }
        assert run(plan, *settings) == 0
        assert run(plan, *settings[2:]) == 0
        assert {file.name: file.stat().st_mtime_ns for file in output.iterdir()} == dates

    def test_writes_the_same_bytes_with_any_number_of_processes_and_again(
        self, dataset: Path, output: Path
    ) -> None:
        written = set()
        for processes in (0, 1, 2, 2):
            shutil.rmtree(output, ignore_errors=True)
            assert plan.main(["-d", "501", "-np", str(processes)]) == 0
            files = (
                "dataset_fingerprint.json",
                "raw_files.json",
                "samnetPlans.json",
                "splits_final.json",
            )
            written.add(tuple((output / name).read_bytes() for name in files))
        assert len(written) == 1
        assert plan.main(["-d", "501", "--overwrite"]) == 0
        assert (output / "samnetPlans.json").read_bytes() in written.pop()

    @pytest.mark.parametrize(
        ("memory", "checkpointing", "reason"),
        [
            ("3G", True, r"a step of 8 takes [\d.]+ of 3 GiB by a dry run"),
            ("80G", False, r"a step of 8 takes at most [\d.]+ of 80 GiB"),
        ],
    )
    def test_plans_memory_by_a_dry_run_or_an_estimate(
        self,
        dataset: Path,
        output: Path,
        memory: str,
        checkpointing: bool,
        reason: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(dry_run, "measure_step", measure_step)
        settings = ("--set", "backbone=vit_b", "--set", "input_size=448", "--set", "batch_size=8")
        assert run(plan, "--device", "cuda", "--memory", memory, "--explain", *settings) == 0
        assert value(output, "gradient_checkpointing") is checkpointing
        assert re.search(reason, " ".join(capsys.readouterr().out.split()))

    def test_loads_no_libraries_that_take_seconds(self, dataset: Path, output: Path) -> None:
        program = (
            "import sys; from samnet.cli.plan_and_preprocess import main; code = main(sys.argv[1:])"
            "; print(code, *{'torch', 'sympy'} & set(sys.modules))"
        )
        options = ["-d", "501", "-np", "0", "--device", "cpu", "--memory", "16G"]
        process = subprocess.run(
            [sys.executable, "-c", program, *options], capture_output=True, text=True, check=True
        )
        assert process.stdout.splitlines()[-1] == "0"
        assert value(output, "backbone") == "small"

    def test_applies_settings(self, dataset: Path, output: Path) -> None:
        settings = ("--set", "views=[0, 2]", "--set", "zoom=3", "--set", "lora_targets=[q, k]")
        assert run(plan, *settings) == 0
        assert value(output, "views") == [0, 2]
        assert value(output, "zoom") == 3.0
        assert value(output, "lora_targets") == ["q", "k"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--set", "zooom=3"], "unknown key 'zooom'; did you mean 'zoom'?"),
            (["--set", "zoom=wide"], "zoom: expected a number, found 'wide'"),
            (["--set", "views=0,1"], "views: expected a list, found '0,1'"),
            (["--set", "zoom=NaN"], "zoom is nan"),
            (["--set", "folds=3"], "edit splits_final.json"),
            (["--device", "tpu"], "choose cuda, mps or cpu"),
            (
                ["--device", "cuda"],
                "not on this machine (available: cpu); to plan for another machine give its memory",
            ),
            (["--memory", "much"], "write the size in GiB"),
        ],
        ids=lambda entry: " ".join(entry) if isinstance(entry, list) else "",
    )
    def test_refuses_impossible_options(
        self,
        dataset: Path,
        output: Path,
        options: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(plan, *options) == 2
        assert message in capsys.readouterr().err
        assert not (output / "samnetPlans.json").exists()

    def test_keeps_a_plan_for_a_gpu_on_a_login_node(self, dataset: Path, output: Path) -> None:
        assert run(plan, "--device", "cuda", "--memory", "16G") == 0
        assert planned(output)["machine"] == {"device": "cuda", "memory": 16.0}
        assert value(output, "backbone") == "vit_b"
        assert run(plan) == 0
        assert value(output, "backbone") == "vit_b"
        assert run(plan, "--device", "cpu") == 0
        assert value(output, "backbone") == "small"

    def test_keeps_what_was_changed_by_hand(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(plan) == 0
        content = planned(output)
        content["configurations"]["lora"]["decisions"]["zoom"]["value"] = 3
        content["decisions"]["in_plane_spacing"] = 2
        write_plan(output, content)
        before = (output / "samnetPlans.json").read_text()
        assert run(plan) == 0
        assert (output / "samnetPlans.json").read_text() == before
        assert run(plan, "--set", "patience=3") == 2
        assert "changed by hand (in_plane_spacing, " in capsys.readouterr().err
        assert (output / "samnetPlans.json").read_text() == before
        assert run(plan, "--set", "patience=3", "--overwrite") == 0
        assert (value(output, "patience"), value(output, "in_plane_spacing")) == (3, 1.0)

    def test_replaces_a_broken_plan_only_with_overwrite(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(plan) == 0
        content = planned(output)
        content["configurations"]["lora"]["decisions"]["zooom"] = 3
        write_plan(output, content)
        broken = (output / "samnetPlans.json").read_text()
        assert run(plan) == 2
        message = capsys.readouterr().err
        assert "samnetPlans.json: configuration lora: unknown key 'zooom'" in message
        assert "--overwrite" in message
        assert (output / "samnetPlans.json").read_text() == broken
        assert run(plan, "--overwrite") == 0

    def test_plans_published_configurations_on_request_and_keeps_them(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = ["frozen", "full", "lora", "scratch"]
        assert run(plan, "-c", "lora") == 0
        assert sorted(planned(output)["configurations"]) == own
        assert run(plan, "-c", "samed", "autosam", "--explain") == 0
        printed = capsys.readouterr().out
        assert "configuration samed: SAMed" in printed
        assert "configuration lora" not in printed
        assert run(plan, "--explain") == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "or with -c: autosam_cnn, autosam_linear, ma_sam, samed_h, samed_s" in printed
        more = sorted([*own, "samed", "autosam"])
        assert sorted(planned(output)["configurations"]) == more
        assert run(plan, "--set", "frame=stretch") == 0
        assert sorted(planned(output)["configurations"]) == more
        assert value(output, "frame", "samed") == "stretch"
        assert run(plan_and_preprocess, "--overwrite", "--configurations", "samed_s") == 0
        assert sorted(planned(output)["configurations"]) == sorted([*own, "samed_s"])

    @pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
    def test_refuses_to_plan_an_unknown_configuration(
        self,
        dataset: Path,
        output: Path,
        overwrite: tuple[str, ...],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(plan) == 0
        before = planned(output)
        assert run(plan, "-c", "samde", *overwrite) == 2
        assert "no configuration 'samde'" in capsys.readouterr().err
        assert planned(output) == before

    def test_adds_to_a_plan_that_was_changed_by_hand_and_keeps_the_rest(
        self, dataset: Path, output: Path
    ) -> None:
        assert run(plan) == 0
        content = planned(output)
        content["configurations"]["lora"]["decisions"]["zoom"]["value"] = 3.0
        content["configurations"]["mine"] = {"inherit": "autosam_cnn", "decisions": {"steps": 9}}
        write_plan(output, content)
        assert run(preprocess) == 0  # needs the views of `mine`
        found = planned(output)
        assert found["configurations"].pop("autosam_cnn")["decisions"]["head"]["value"] == "cnn"
        assert found["configurations"]["mine"]["decisions"]["steps"]["value"] == 9
        assert run(plan, "-c", "samed") == 0
        again = planned(output)
        assert "samed" in again["configurations"]
        assert value(output, "zoom") == 3.0
        assert value(output, "steps", "mine") == 9
        assert again["planned_key"] == found["planned_key"] == content["planned_key"]
        for name in ("lora", "frozen", "full", "scratch"):
            assert again["configurations"][name] == content["configurations"][name]
        assert run(plan, "--set", "patience=3") == 2

    def test_keeps_the_splits_when_the_plan_is_overwritten(
        self, dataset: Path, output: Path
    ) -> None:
        assert run(plan) == 0
        mine = '[{"train": ["case_01"], "val": ["case_00"]}]'
        (output / "splits_final.json").write_text(mine)
        assert run(plan, "--overwrite") == 0
        assert (output / "splits_final.json").read_text() == mine

    def test_plans_again_when_the_raw_data_change(
        self,
        dataset: Path,
        output: Path,
        make_dataset: MakeDataset,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(plan) == 0
        key = planned(output)["data_key"]
        make_dataset(dataset.parent, num_cases=4, spacing=(2.0, 0.5, 0.5))
        assert run(plan) == 0
        assert planned(output)["data_key"] != key
        assert value(output, "in_plane_spacing") == 0.5
        assert len(json.loads((output / "dataset_fingerprint.json").read_text())["cases"]) == 4

    def test_names_the_known_data_sets_where_one_is_unknown(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(plan, dataset="77") == 2
        assert f"no data set '77' in {dataset.parent} (known: {NAME})" in capsys.readouterr().err


class TestPreprocess:
    def test_needs_a_plan(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(preprocess) == 2
        assert f"{NAME} is not planned yet" in capsys.readouterr().err

    def test_prepares_what_the_plan_needs(self, dataset: Path, output: Path) -> None:
        assert run(plan) == 0
        content = planned(output)
        for axis in (2, 1):
            views = {"inherit": "lora", "decisions": {"views": [0, axis]}}
            content["configurations"][f"views_0_{axis}"] = views
        write_plan(output, content)
        assert run(preprocess) == 0
        assert set(load_case(output / "slices", "case_00").record.class_slices) == {"0", "1", "2"}

    def test_parts_of_a_job_array(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(plan) == 0
        assert run(preprocess, "--num-parts", "2", "--part-id", "1") == 0
        assert [file.name for file in (output / "slices").glob("*.json")] == ["case_01.json"]
        assert run(preprocess, "--num-parts", "2", "--part-id", "0") == 0
        assert len(list((output / "slices").glob("*.json"))) == 2
        assert run(preprocess, "--num-parts", "2", "--part-id", "2") == 2
        assert "the id goes from 0 to 1" in capsys.readouterr().err

    def test_names_a_bad_case_and_prepares_the_others(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(plan) == 0
        break_case(dataset, 0)
        assert run(preprocess) == 1
        message = capsys.readouterr().err
        assert "preprocessing failed for 1 of 2 cases; the others are done" in message
        assert "case_00_0000.nii.gz: cannot be read" in message
        assert (output / "slices" / "case_01.json").is_file()


class TestPlanAndPreprocess:
    def test_does_all_steps_and_nothing_when_run_again(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ("--set", "patience=3")
        assert run(plan_and_preprocess, *options) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{NAME}, planned for ")
        assert printed.endswith("next: samnet_train 501 lora\n")
        dates = {file: file.stat().st_mtime_ns for file in output.rglob("*.*")}
        assert {"samnetPlans.json", "splits_final.json", "case_01.json"} <= {
            file.name for file in dates
        }
        assert run(plan_and_preprocess, *options) == 0
        assert {file: file.stat().st_mtime_ns for file in output.rglob("*.*")} == dates

    def test_several_data_sets(
        self, dataset: Path, folders: dict[str, Path], make_dataset: MakeDataset
    ) -> None:
        make_dataset(dataset.parent, number=502, num_cases=1, file_ending=".png", name="Images2D")
        assert plan_and_preprocess.main(["-d", "501", "Dataset502_Images2D", "-np", "0"]) == 0
        slices = folders["preprocessed"] / "Dataset502_Images2D" / "slices"
        assert (slices / "case_00.json").is_file()

    def test_writes_nothing_where_there_are_faults(
        self, dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        os.truncate(dataset / "labelsTr" / "case_00.nii.gz", 20)
        assert run(plan_and_preprocess) == 2
        assert f"{NAME}: 1 fault" in capsys.readouterr().err
        assert not output.exists()

    def test_no_verify_skips_the_check(self, dataset: Path, output: Path) -> None:
        description = json.loads((dataset / "dataset.json").read_text())
        (dataset / "dataset.json").write_text(json.dumps(description | {"numTraining": 99}))
        assert run(plan_and_preprocess) == 2
        assert run(plan_and_preprocess, "--no-verify") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zoom=3", ("zoom", 3)),
        ("learning_rate=1e-3", ("learning_rate", 0.001)),
        ("views=[0]", ("views", [0])),
        ("mirror_axes=[]", ("mirror_axes", [])),
        ("head=cnn", ("head", "cnn")),
        ('head="cnn"', ("head", "cnn")),
        ("lora_targets=[q,v]", ("lora_targets", ["q", "v"])),
        ('lora_targets=["q", "v"]', ("lora_targets", ["q", "v"])),
        ("gradient_checkpointing=true", ("gradient_checkpointing", True)),
        ("gradient_checkpointing=True", ("gradient_checkpointing", True)),
        ("mirror_at_prediction=False", ("mirror_at_prediction", False)),
        ("a=b=c", ("a", "b=c")),
        ("head=", ("head", "")),
    ],
)
def test_key_and_value(text: str, expected: tuple[str, Any]) -> None:
    assert key_and_value(text) == expected


@pytest.mark.parametrize("text", ["zoom", "=3", ""])
def test_key_and_value_refuses_other_texts(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not KEY=VALUE"):
        key_and_value(text)


def test_unlabelled_folder_is_prepared_with_the_data_set(
    dataset: Path, output: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    image = scans / "other_0000.nii.gz"
    shutil.copy(dataset / "imagesTr" / "case_00_0000.nii.gz", image)
    change(image, lambda array: array + 1)
    assert run(plan_and_preprocess, "--device", "cpu", "--unlabelled", str(scans)) == 0
    assert load_case(output / "slices_unlabelled", "other").identifier == "other"
    options = ["-d", "501", "502", "-np", "0", "--unlabelled", str(scans)]
    assert plan_and_preprocess.main(options) == 2
    assert "belongs to one data set, and -d names 2" in capfd.readouterr().err
