"""kill -9 at random moments.

`SAMNET_FAULTS=200` kills 200 times instead of 20, and `SAMNET_FAULTS_SEED` chooses other moments.
"""

from __future__ import annotations

import os
import random
import time

from builders.stages import STAGES, Project, leftovers, start

NUM_KILLS = int(os.environ.get("SAMNET_FAULTS", "20"))
SEED = int(os.environ.get("SAMNET_FAULTS_SEED", "0"))


def test_every_stage_ends_as_if_undisturbed_after_it_was_killed(project: Project) -> None:
    """After each kill the same command finishes with the same files, byte for byte.

    It also removes partial files. Every other time it is killed once more before it may finish.
    """
    generator = random.Random(SEED)
    durations: dict[int, float] = {}
    half_done = {stage.name: 0 for stage in STAGES}
    for kill in range(NUM_KILLS):
        number = kill % len(STAGES)
        stage = STAGES[number]
        project.go_back_to(number)
        if number not in durations:
            started = time.monotonic()
            assert start(stage.run).join() is None
            durations[number] = time.monotonic() - started
            project.check(number)
            project.go_back_to(number)
        for _ in range(1 + kill % 2):
            process = start(stage.run)
            time.sleep(generator.uniform(0, durations[number]))
            process.kill()
            process.join()
            half_done[stage.name] += bool(leftovers(project.root))
        assert stage.run() == 0, f"{stage.name}, kill {kill}"
        project.check(number)
    print(f"{NUM_KILLS} rounds; killed at work, by stage: {half_done}")
    assert sum(half_done.values()) >= NUM_KILLS // 4
