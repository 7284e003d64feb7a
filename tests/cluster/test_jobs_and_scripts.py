from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samnet.cli.plan import main as plan
from samnet.cli.status import main as status
from samnet.cli.submit import main
from samnet.cluster.jobs import prediction_jobs
from samnet.cluster.script import Job, Resources, script_of
from samnet.core.locks import lock_folder

NAME = "Dataset501_Tiny"


@pytest.fixture
def planned(
    folders: dict[str, Path], make_dataset: object, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A planned data set of four cases; returns the folder of results."""
    make_dataset(folders["raw"], num_cases=4)  # type: ignore[operator]
    # Measuring a step takes seconds for each configuration; this is its memory in GiB.
    monkeypatch.setattr("samnet.training.dry_run.measure_step", lambda *configuration: 0.5)
    assert plan(["-d", "501", "-np", "0", "--device", "cpu"]) == 0
    return folders["results"]


def run_script(text: str, folder: Path, *arguments: str, **environment: str) -> list[str]:
    """Run a script with `echo` in place of samnet; return the words of its command."""
    file = folder / "job.sh"
    file.write_text(text.replace("command=(", "command=(echo "))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    process = subprocess.run(
        ["bash", str(file), *arguments],
        env=plain | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    words = process.stdout.split()
    return words[words.index("samnet") + 1 :]


def test_script_runs_the_command_of_the_task_under_any_scheduler(tmp_path: Path) -> None:
    commands = (("train", "8", "lora", "0"), ("train", "8", "lora", "1"))
    job = Job("a", commands, Resources(), num_tasks=2)
    script = script_of(job, tmp_path)
    assert run_script(script, tmp_path, "1") == ["train", "8", "lora", "1"]
    assert run_script(script, tmp_path) == ["train", "8", "lora", "0"]
    assert run_script(script, tmp_path, JOB_COMPLETION_INDEX="1") == ["train", "8", "lora", "1"]
    assert run_script(script, tmp_path, SLURM_ARRAY_TASK_ID="1") == ["train", "8", "lora", "1"]
    with pytest.raises(subprocess.CalledProcessError):
        run_script(script, tmp_path, "2")


def test_script_of_a_prediction_has_the_number_of_the_part_and_quoted_names(tmp_path: Path) -> None:
    [job] = prediction_jobs(["-i", "my images", "-o", "out"], 20, Resources())
    script = script_of(job, tmp_path)
    assert "'my images'" in script
    assert run_script(script, tmp_path, "7")[-4:] == ["--num-parts", "20", "--part-id", "7"]


def test_script_directives(tmp_path: Path) -> None:
    resources = Resources("gpu", 2, 8, "64G", 5400, ("--account=imaging",))
    lines = script_of(Job("a", (("status",),), resources, num_tasks=3), tmp_path).splitlines()
    given = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert {
        "--array=0-2",
        "--partition=gpu",
        "--gpus-per-node=2",
        "--cpus-per-task=8",
        "--mem=64G",
        "--time=90",
        "--account=imaging",
        "--requeue",
        "--signal=USR1@120",
    } <= set(given)
    assert "--array" not in script_of(Job("a", (("status",),), Resources()), tmp_path)


def test_output_of_every_task_is_kept_in_a_file_of_its_own(tmp_path: Path) -> None:
    """A job that is put back into the queue writes on in the same file."""
    for num_tasks, name in ((3, "%x_%A_%a.log"), (1, "%x_%j.log")):
        script = script_of(Job("a", (("status",),), Resources(), num_tasks=num_tasks), tmp_path)
        assert f"#SBATCH --output={tmp_path / name}\n" in script
        assert "#SBATCH --open-mode=append\n" in script


@pytest.mark.parametrize(("seconds", "minutes"), [(20.0, 1), (89.0, 1), (91.0, 2), (3600.0, 60)])
def test_time_limit_is_at_least_a_minute(seconds: float, minutes: int) -> None:
    """For SLURM, 0 is no limit."""
    assert Resources(seconds=seconds).directives() == [f"--time={minutes}"]


def test_step_of_a_job_has_one_task_with_the_cores_of_the_job(tmp_path: Path) -> None:
    program = tmp_path / "srun"
    program.write_text('#!/bin/sh\necho "$SRUN_CPUS_PER_TASK" "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(script_of(Job("a", (("status",),), Resources(cpus=4)), tmp_path))
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "PATH": path}
    printed = subprocess.run(
        ["bash", str(script)], env=os.environ | job, capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"4 --ntasks=1 {sys.executable} -m samnet status\n"


def test_script_hands_on_the_folders_that_variables_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("samnet_raw", "samnet_preprocessed", "samnet_results", "samnet_checkpoints")
    for name in names:
        monkeypatch.setenv(name, str(tmp_path / f"a folder of {name}"))
    script = script_of(Job("a", (("status",),), Resources()), tmp_path)
    for name in names:
        assert f"export {name}='{tmp_path / f'a folder of {name}'}'\n" in script


GPU_OPTIONS = ("--gres=gpu:2", "--gpus-per-task=1", "--mem-per-gpu=8G", "-G 1")
OTHER_OPTIONS = ("--account=imaging", "--gres=scratch:10")


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    "words", [["train", "501", "lora"], ["preprocess", "501", "--num-parts", "2"]]
)
def test_jobs_that_compute_without_gpus_request_none(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--sbatch={option}" for option in (*GPU_OPTIONS, *OTHER_OPTIONS)]
    assert main([*words, "--gpus", "1", *options, "--dry-run"]) == 0
    last = capsys.readouterr().out.split("# sbatch")[-1]  # choosing, or preparing
    directives = [line for line in last.splitlines() if line.startswith("#SBATCH")]
    assert {f"#SBATCH {option}" for option in OTHER_OPTIONS} <= set(directives)
    assert not [line for line in directives if "gpu" in line or "-G" in line]


@pytest.mark.usefixtures("planned")
def test_submit_takes_published_configurations_and_leaves_planning_to_the_jobs(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = folders["preprocessed"] / NAME / "samnetPlans.json"
    before = file.read_text()
    assert main(["train", "501", "--configs", "samed", "lora", "--dry-run"]) == 0
    assert f"samnet train {NAME} samed 3" in capsys.readouterr().out
    assert file.read_text() == before
    assert main(["train", "501", "--configs", "samde", "--dry-run"]) == 2
    assert "no configuration 'samde'; it has frozen" in capsys.readouterr().err


def test_submit_dry_run_prints_folds_times_configurations_and_what_follows(
    planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "501", "lora", "--folds", "cv", "--configs", "lora", "frozen"]
    options = ["--gpus", "2", "--time", "12h", "--options", "--epochs 10", "--dry-run"]
    assert main([*train, *options]) == 0
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-7" in printed
    last = f"{sys.executable} -m samnet train {NAME} frozen 3 --gpus 2 --epochs 10"
    assert f"7) command=({last})" in printed
    assert "# sbatch --dependency=afterany:ID_OF_samnet-train-501 samnet-choose-501.sh" in printed
    assert f"samnet find_best_configuration {NAME} -c lora frozen" in printed
    assert not list(planned.iterdir())
    assert main(["train", "501", "lora", "--folds", "0", "--dry-run"]) == 0
    assert "samnet-choose" not in capsys.readouterr().out
    assert main(["train", "501", "lora", "--folds", "cv", "all", "--dry-run"]) == 0
    assert "samnet-choose" in capsys.readouterr().out


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("by_flags", "in_order"),
    [
        ("train -d 501 -c lora frozen -f 0 2", "train 501 lora --configs frozen --folds 0 2"),
        ("train --dataset 501 -c lora", "train 501 lora"),
        ("preprocess -d 501 --num-parts 2", "preprocess 501 --num-parts 2"),
    ],
)
def test_submit_takes_flags_in_place_of_the_order(
    by_flags: str, in_order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for words in (by_flags, in_order):
        assert main([*words.split(), "--dry-run"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def test_submit_preprocess_plans_first_where_there_is_no_plan(
    folders: dict[str, Path], make_dataset: object, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(folders["raw"])  # type: ignore[operator]
    options = ["--num-parts", "3", "--options", "--memory 16G --device cuda", "--dry-run"]
    assert main(["preprocess", "501", "--gpus", "1", *options]) == 0
    printed = capsys.readouterr().out
    planning = printed.index(f"plan -d {NAME} --memory 16G --device cuda")
    assert planning < printed.index("#SBATCH --array=0-2")
    assert printed.count("--gpus-per-node=1") == 1  # of the planning, which may measure it
    assert printed.index("--gpus-per-node=1") < planning


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "501"], "which configuration"),
        (["train", "-c", "lora"], "dataset missing; write for example 8, or -d 8"),
        (["train", "-d", "501", "lora"], "'lora' is given in order and '--dataset 501' by flags"),
        (["train", "501", "lore"], "no configuration 'lore'"),
        (["train", "501", "lora", "--folds", "9"], "fold '9': choose from 0, 1, 2, 3, all, or cv"),
        (["preprocess", "501", "--options", "--memory 8G"], "is planned already"),
        (["predict", "-i", "a", "-o", "b"], "there is no sbatch on this machine; --dry-run"),
    ],
)
def test_submit_refuses_what_cannot_be_submitted(
    planned: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(words) == 2
    assert message in capsys.readouterr().err


def put_sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch, commands: str) -> None:
    """Put a false sbatch that runs shell commands before all other programs."""
    program = folder / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{commands}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_submit_hands_jobs_to_slurm_in_order_with_their_dependencies(
    planned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submitted = tmp_path / "submitted"
    put_sbatch(tmp_path, monkeypatch, f'echo "$@" >> {submitted}; wc -l < {submitted}')
    assert main(["train", "501", "lora"]) == 0
    assert capsys.readouterr().out == "samnet-train-501: job 1\nsamnet-choose-501: job 2\n"
    first, second = submitted.read_text().splitlines()
    assert first.startswith("--parsable /")
    assert second.startswith("--parsable --dependency=afterany:1 /")
    assert Path(first.split()[-1]).read_text().startswith("#!/bin/bash\n")


def test_submit_takes_the_number_alone_on_a_cluster_with_a_name(
    planned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_sbatch(tmp_path, monkeypatch, 'echo "7;cluster"')
    assert main(["train", "501", "lora", "--folds", "0"]) == 0
    assert capsys.readouterr().out == "samnet-train-501: job 7\n"


def test_submit_fails_where_slurm_refuses_a_job(
    planned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_sbatch(tmp_path, monkeypatch, "echo invalid partition >&2; exit 1")
    assert main(["train", "501", "lora"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "samnet-train-501.sh: invalid partition" in captured.err


def test_status_shows_the_state_of_runs(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([]) == 0
    assert "no runs in" in capsys.readouterr().out
    row = {"epoch": 3, "step": 30, "mean_dice": 0.71234, "seconds": 600.0}
    request = {
        "training_cases": ["case_00"],
        "seed": 0,
        "max_seconds": None,
        "data_key": "key",
        "configuration": {"steps": 120},
    }
    for name in ("fold_all", "fold_0", "fold_1", "fold_2", "fold_3", "fold_4"):
        folder = planned / NAME / "lora" / name
        folder.mkdir(parents=True)
        limit = 900.0 if name == "fold_3" else None
        record = {
            "request": request | {"fold": name.removeprefix("fold_"), "max_seconds": limit},
            "sessions": [{"started": "2026-01-02 03:04:05"}],
        }
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "metrics.jsonl").write_text(json.dumps(row) + '\n{"epoch": 4, "st')
    for name in ("fold_all", "fold_1"):
        (planned / NAME / "lora" / name / "checkpoint_final.safetensors").touch()
    (planned / NAME / "lora" / "fold_2" / "run.json").write_text("{")
    (planned / NAME / "lora" / "fold_4" / "metrics.jsonl").write_bytes(b"\xff")
    with lock_folder(planned / NAME / "lora", "training fold_0"):
        assert status(["-d", "501"]) == 0
    rows = capsys.readouterr().out.splitlines()
    lines = {row.split()[0].rpartition("/")[2]: row for row in rows}
    assert lines["fold_0"].split()[1:8] == ["running", "3", "0.7123", "last", "epoch", "30", "min"]
    assert f"process {os.getpid()} on" in lines["fold_0"]
    assert "finished" in lines["fold_all"]
    assert "trained" in lines["fold_1"]
    assert "damaged" in lines["fold_2"]
    assert lines["fold_3"].split()[1:8] == ["stopped", "3", "0.7123", "last", "epoch", "5", "min"]
    assert "begun 2026-01-02 03:04:05; the same command resumes it" in lines["fold_3"]
    assert "metrics.jsonl: cannot be read" in lines["fold_4"]
