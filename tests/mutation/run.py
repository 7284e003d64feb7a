"""Change the modules on which a mask depends, one place at a time, and count what the tests catch.

    python tests/mutation/run.py              # all modules, about an hour on 2 cores
    python tests/mutation/run.py loss lora    # some of them

The changes are made by mutmut (BSD-3-Clause) in a copy of the tree under `build/mutation`. Each
change is tested by the tests of its module alone. Not changed are constants of a module, decorated
functions, and messages to users.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from modules import MODULES, Module
from survivors import Change, read_reasons

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutation"
COPIED = ("samnet", "tests", "plans", "benchmarks", "setup.py", "setup.cfg", "README.md")
WANTED_SHARE = 0.9

# The words of messages are free, and no caller has sequences of different lengths for `zip`.
NOT_CHANGED = (r"\braise ", r"warn\(", r"\bf?\"[A-Z]", r"^\s+f\"", r"strict=")

CONFIGURATION = """\
[tool.mutmut]
source_paths = ["samnet"]
only_mutate = {sources}
also_copy = ["plans", "benchmarks", "samnet/weights", "README.md", "setup.py"]
pytest_add_cli_args = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
pytest_add_cli_args_test_selection = {tests}
do_not_mutate_patterns = {not_changed}
process_isolation = "forkserver"
use_git_change_detection = false
track_dependencies = false
"""


@dataclass(frozen=True)
class Result:
    """What became of the changes of one module.

    Attributes:
        changes: Number of changes that were tried.
        caught: Number of changes that failed a test, or never ended.
        survivors: Changes that no test noticed.
        explained: Number of survivors for which `survivors.json` has a reason.
    """

    changes: int
    caught: int
    survivors: tuple[Change, ...]
    explained: int

    @property
    def share(self) -> float:
        """Share of the changes that were caught, of those without a reason to survive."""
        return self.caught / max(self.changes - self.explained, 1)


def prepare(name: str, module: Module) -> Path:
    """Copy the tree and configure mutmut for one module.

    Args:
        name: Name of the module, which becomes the name of the copy.
        module: Its sources and tests.

    Returns:
        The copy.
    """
    copy = BUILD / name
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for entry in COPIED:
        if (ROOT / entry).is_dir():
            shutil.copytree(
                ROOT / entry, copy / entry, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / entry, copy / entry)
    tests = set()
    for pattern in module.test_patterns():
        found = list((ROOT / "tests").glob(pattern))
        tests.update(str(file.relative_to(ROOT)) for file in found)
    configuration = CONFIGURATION.format(
        sources=json.dumps(module.sources),
        tests=json.dumps(sorted(tests)),
        not_changed=json.dumps(NOT_CHANGED),
    )
    (copy / "pyproject.toml").write_text(configuration, encoding="utf-8")
    return copy


def mutmut(copy: Path, *arguments: str) -> str:
    """Run mutmut in a copy of the tree.

    Args:
        copy: The copy.
        arguments: Arguments of mutmut.

    Returns:
        What it prints.

    Raises:
        SystemExit: Where mutmut fails, as it does where a test fails without any change.
    """
    # Threads of numeric libraries do not survive the fork by which mutmut starts each test run.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nin {copy} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def source_of(mutant: str) -> str:
    """Return the source file of a mutant such as `samnet.core.files.x_write_text__mutmut_3`."""
    return mutant.rsplit(".", 1)[0].replace(".", "/") + ".py"


def try_changes(name: str, module: Module, processes: int) -> Result:
    """Make each change of a module and run its tests.

    Args:
        name: Name of the module.
        module: Its sources and tests.
        processes: Number of changes that are tried at the same time.

    Returns:
        What became of the changes.
    """
    copy = prepare(name, module)
    mutmut(copy, "run", "--max-children", str(processes))
    outcomes = {}
    for line in mutmut(copy, "results", "--all", "true").splitlines():
        mutant, found, outcome = line.strip().partition(": ")
        if found:
            outcomes[mutant] = outcome
    reasons = read_reasons()
    survivors = []
    for mutant, outcome in outcomes.items():
        if outcome in ("survived", "no tests"):
            survivors.append(Change.from_diff(source_of(mutant), mutmut(copy, "show", mutant)))
    explained = sum(change in reasons for change in survivors)
    return Result(len(outcomes), len(outcomes) - len(survivors), tuple(survivors), explained)


def show(name: str, result: Result) -> None:
    """Print the result of a module, and the survivors that have no reason."""
    print(
        f"{name:15s} {result.changes:5d} changes, {result.caught:5d} caught, "
        f"{result.explained:3d} survive for a reason: {result.share:.1%}",
        flush=True,
    )
    reasons = read_reasons()
    for change in result.survivors:
        if change not in reasons:
            print(f"    {change.source}\n      - {change.removed}\n      + {change.added}")


def main() -> int:
    """Try the changes of the named modules, or of all.

    Returns:
        0 where at least nine tenths of the changes are caught in each module, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--processes", type=int, default=2, help="changes at a time")
    options = parser.parse_args()
    unknown = sorted(set(options.modules) - set(MODULES))
    if unknown:
        parser.error(f"no module {', '.join(unknown)}; there are {', '.join(MODULES)}")
    shares = []
    for name in options.modules or MODULES:
        result = try_changes(name, MODULES[name], options.processes)
        show(name, result)
        shares.append(result.share)
    return int(min(shares) < WANTED_SHARE)


if __name__ == "__main__":
    sys.exit(main())
