"""What the jobs of samnet_submit run, word for word, and that a dry run shows what is submitted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.programs import install_program

from samnet.cli.plan import main as plan
from samnet.cli.submit import main

NAME = "Dataset501_Tiny"
RESOURCES = ["--partition", "gpu", "--gpus", "2", "--cpus", "8", "--memory", "64G", "--time", "90m"]
DIRECTIVES = {
    "--partition=gpu",
    "--gpus-per-node=2",
    "--cpus-per-task=8",
    "--mem=64G",
    "--time=90",
    "--account=imaging",
    "--qos=high",
    "--requeue",
    "--signal=USR1@120",
}
FURTHER = ["--sbatch=--account=imaging", "--sbatch=--qos=high"]


@pytest.fixture
def planned(
    folders: dict[str, Path],
    make_dataset: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A planned data set of four cases, in a cluster of false programs; returns its results."""
    make_dataset(folders["raw"], num_cases=4)  # type: ignore[operator]
    # Measuring a step takes seconds for each configuration; this is its memory in GiB.
    monkeypatch.setattr("samnet.training.dry_run.measure_step", lambda *configuration: 0.5)
    assert plan(["-d", "501", "-np", "0", "--device", "cpu"]) == 0
    install_program(tmp_path, monkeypatch, "sbatch", f"wc -l < {tmp_path / 'sbatch.notes'}")
    install_program(tmp_path, monkeypatch, "srun", 'shift; exec "$@"')
    # In place of Python: the jobs call it by its path.
    notes = install_program(tmp_path, monkeypatch, "python")
    monkeypatch.setattr(sys, "executable", str(notes.parent / "bin" / "python"))
    return folders["results"]


def submitted(notes: Path) -> list[tuple[list[str], str]]:
    """Return the options of sbatch and the script of every job that was submitted."""
    jobs = []
    for line in notes.read_text().splitlines():
        *options, script = line.split()
        jobs.append((options, Path(script).read_text()))
    return jobs


def directives(script: str) -> set[str]:
    prefix = "#SBATCH "
    return {line.removeprefix(prefix) for line in script.splitlines() if line.startswith(prefix)}


def run_tasks(script: str, folder: Path, num_tasks: int) -> list[str]:
    """Run every task of a script as SLURM does; return the words after `python -m samnet`."""
    file, notes = folder / "job.sh", folder / "python.notes"
    file.write_text(script)
    notes.unlink(missing_ok=True)
    for task in range(num_tasks):
        job = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.run(["bash", str(file)], env=os.environ | job, check=True)
    prefix = "-m samnet "
    return [line.removeprefix(prefix) for line in notes.read_text().splitlines()]


def test_jobs_of_training_run_every_fold_of_every_configuration_then_the_choice(
    planned: Path, tmp_path: Path
) -> None:
    words = ["train", "501", "lora", "--configs", "lora", "frozen", *RESOURCES, *FURTHER]
    assert main([*words, "--options", "--epochs 10 --set 'views=[0, 2]'"]) == 0
    (_, train), (options, choose) = submitted(tmp_path / "sbatch.notes")
    expected = []
    for configuration in ("lora", "frozen"):
        for fold in range(4):
            rest = "--gpus 2 --epochs 10 --set views=[0, 2]"
            expected.append(f"train {NAME} {configuration} {fold} {rest}")
    assert run_tasks(train, tmp_path, 8) == expected
    assert DIRECTIVES | {"--array=0-7", "--job-name=samnet-train-501"} <= directives(train)
    assert run_tasks(choose, tmp_path, 1) == [f"find_best_configuration {NAME} -c lora frozen"]
    assert "--dependency=afterany:1" in options
    assert not any("gpus" in directive for directive in directives(choose))


def test_jobs_of_training_take_the_folds_that_are_given(planned: Path, tmp_path: Path) -> None:
    assert main(["train", "501", "lora", "--folds", "2", "all"]) == 0
    [(options, script)] = submitted(tmp_path / "sbatch.notes")
    assert run_tasks(script, tmp_path, 2) == [f"train {NAME} lora 2", f"train {NAME} lora all"]
    assert not any("dependency" in option for option in options)


def test_jobs_of_prediction_resume_and_take_a_part_each(planned: Path, tmp_path: Path) -> None:
    words = ["predict", "-i", "my images", "-o", "out", "--num-parts", "3", *RESOURCES, *FURTHER]
    assert main([*words, "--options", "-d 501 -c lora --no-mirror"]) == 0
    [(_, script)] = submitted(tmp_path / "sbatch.notes")
    given = "predict -i my images -o out -d 501 -c lora --no-mirror --continue --num-parts 3"
    tasks = run_tasks(script, tmp_path, 3)
    assert tasks == [f"{given} --part-id {part}" for part in range(3)]
    assert DIRECTIVES | {"--array=0-2"} <= directives(script)


def test_jobs_of_preparation_take_a_part_each(planned: Path, tmp_path: Path) -> None:
    assert main(["preprocess", "501", "--num-parts", "2", "--cpus", "4"]) == 0
    [(_, script)] = submitted(tmp_path / "sbatch.notes")
    given = f"preprocess -d {NAME} --num-parts 2"
    assert run_tasks(script, tmp_path, 2) == [f"{given} --part-id {part}" for part in range(2)]
    assert "--cpus-per-task=4" in directives(script)


def test_jobs_of_preparation_wait_for_the_plan_where_there_is_none(
    planned: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    (folders["preprocessed"] / NAME / "samnetPlans.json").unlink()
    options = ["--options", "--memory 16G --device cuda"]
    assert main(["preprocess", "501", "--num-parts", "2", *options]) == 0
    (_, planning), (waiting, preparing) = submitted(tmp_path / "sbatch.notes")
    assert run_tasks(planning, tmp_path, 1) == [f"plan -d {NAME} --memory 16G --device cuda"]
    assert not any("--array" in directive for directive in directives(planning))
    assert "--dependency=afterany:1" in waiting
    assert len(run_tasks(preparing, tmp_path, 2)) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["train", "501", "lora", "--configs", "frozen", *RESOURCES, "--options", "--steps 3"],
        ["predict", "-i", "images", "-o", "out", "--num-parts", "2", *RESOURCES, *FURTHER],
        ["preprocess", "501", "--num-parts", "2", "--memory", "8G"],
    ],
    ids=["train", "predict", "preprocess"],
)
def test_dry_run_shows_the_scripts_that_are_submitted(
    planned: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert not (tmp_path / "sbatch.notes").exists()
    assert main(words) == 0
    scripts = [script for _, script in submitted(tmp_path / "sbatch.notes")]
    parts = shown.split("#!/bin/bash\n")
    assert len(parts) == len(scripts) + 1
    for part, script in zip(parts[1:], scripts, strict=True):
        # The line that announces the next script follows an empty line.
        assert (
            part.partition("\n\n# sbatch")[0].rstrip()
            == script.removeprefix("#!/bin/bash\n").rstrip()
        )


def test_jobs_find_the_folders_of_the_one_who_submits(planned: Path, tmp_path: Path) -> None:
    assert main(["train", "501", "lora", "--folds", "0"]) == 0
    [(_, script)] = submitted(tmp_path / "sbatch.notes")
    for kind in ("raw", "preprocessed", "results"):
        assert f"export samnet_{kind}={os.environ[f'samnet_{kind}']}\n" in script
    assert f"cd {Path.cwd()}\n" in script
