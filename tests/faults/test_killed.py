"""kill -9 at random changes of the disk.

`SAMNET_FAULTS=210` kills in 210 rounds instead of 21; `SAMNET_FAULTS_SEED` chooses other changes.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from builders.disk import call_at_changes
from builders.stages import STAGES, Project, Stage, leftovers, start

NUM_ROUNDS = int(os.environ.get("SAMNET_FAULTS", "21"))
SEED = int(os.environ.get("SAMNET_FAULTS_SEED", "0"))


def count_changes(stage: Stage, notes: Path) -> int:
    """Run a stage undisturbed in another process; return how often it changes the disk."""

    def run() -> int:
        with pytest.MonkeyPatch.context() as patch, notes.open("w") as handle:
            call_at_changes(patch, lambda number: print(number, file=handle))
            return stage.run()

    process = start(run)
    process.join()
    assert process.exitcode == 0, stage.name
    return len(notes.read_text().splitlines())


def kill_at(stage: Stage, change: int) -> None:
    """Run a stage in another process that is killed just before one of its changes."""

    def kill(number: int) -> None:
        if number == change:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> int:
        with pytest.MonkeyPatch.context() as patch:
            call_at_changes(patch, kill)
            return stage.run()

    process = start(run)
    process.join()
    # A second run may have less to do than the change.
    assert process.exitcode in (-signal.SIGKILL, 0), stage.name


def test_every_stage_ends_as_if_undisturbed_after_it_was_killed(
    project: Project, tmp_path: Path
) -> None:
    """After each kill the same command finishes with the same files, byte for byte.

    It also removes partial files. Every other time it is killed once more before it may finish.
    """
    generator = random.Random(SEED)
    num_changes: dict[int, int] = {}
    half_done = {stage.name: 0 for stage in STAGES}
    for turn in range(NUM_ROUNDS):
        number = turn % len(STAGES)
        stage = STAGES[number]
        project.go_back_to(number)
        if number not in num_changes:
            num_changes[number] = count_changes(stage, tmp_path / "changes")
            project.check(number)
            project.go_back_to(number)
        for _ in range(1 + turn % 2):
            kill_at(stage, generator.randrange(num_changes[number]))
            half_done[stage.name] += bool(leftovers(project.root))
        assert stage.run() == 0, f"{stage.name}, round {turn}"
        project.check(number)
    print(f"{NUM_ROUNDS} rounds; killed at work, by stage: {half_done}")
    assert all(half_done.values()), half_done
