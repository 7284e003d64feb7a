"""A smoke test of an installed samnet: every step once, outside of the source tree.

`make package` runs it with the Python of an environment that holds the wheel and its dependencies
alone. It needs nothing else, so it can be run by hand with any installation:
`PYTHON tests/packaging/smoke.py`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

DATASET = "999"
STEPS = "3"


def main() -> None:
    """Run all steps in a temporary folder, and say how long each took."""
    with tempfile.TemporaryDirectory(prefix="samnet-smoke-") as name:
        folder = Path(name)
        os.chdir(folder)
        check_installation()
        environment = prepare_environment(folder)
        make_data(folder)
        check_steps(folder, environment)
    print("the installed samnet works")


def check_installation() -> None:
    """Check that samnet is imported from the environment, and that all its commands are there."""
    import samnet

    site = Path(sysconfig.get_path("purelib")).resolve()
    require(Path(samnet.__file__).resolve().is_relative_to(site), f"{samnet.__file__}: not {site}")
    found = importlib.metadata.distribution("samnet")
    require(found.version == samnet.__version__, f"the metadata say version {found.version}")
    scripts = [entry.name for entry in found.entry_points if entry.group == "console_scripts"]
    require("samnet" in scripts, "there is no script samnet")
    missing = [script for script in scripts if not command(script).exists()]
    require(not missing, f"these scripts are not installed: {missing}")
    print(f"samnet {samnet.__version__}, Python {sys.version.split()[0]}, {len(scripts)} scripts")


def prepare_environment(folder: Path) -> dict[str, str]:
    """Return the environment of the commands: folders of samnet below `folder`, no other code."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    for part in ("raw", "preprocessed", "results"):
        environment[f"samnet_{part}"] = str(folder / part)
    return environment


def make_data(folder: Path) -> None:
    """Write two training cases and a test case of the demo."""
    from samnet.demo.anatomy import make_demo_dataset

    (folder / "raw").mkdir()
    make_demo_dataset(folder / "raw", num_training=2, num_test=1, seed=0)


def check_steps(folder: Path, environment: dict[str, str]) -> None:
    """Run the commands from checking the data to the report, and look at what they wrote."""
    raw = folder / "raw" / "Dataset999_Demo"
    predictions = folder / "predictions"
    images, labels = str(raw / "imagesTs"), str(raw / "labelsTs")
    scored = ["-p", str(predictions), "-r", labels]
    steps = (
        ["--help"],
        ["verify_dataset", "-d", DATASET],
        ["plan_and_preprocess", "-d", DATASET, "--device", "cpu"],
        ["doctor", "-d", DATASET, "--device", "cpu"],
        ["train", DATASET, "lora", "all", "--steps", STEPS, "--device", "cpu"],
        ["predict", "-d", DATASET, "-i", images, "-o", str(predictions), "--device", "cpu"],
        ["evaluate", *scored],
        ["report", *scored, "-i", images],
    )
    for words in steps:
        run(words, environment)
    [reference] = (raw / "labelsTs").iterdir()
    require((predictions / reference.name).is_file(), "there is no prediction")
    summary = json.loads((predictions / "summary.json").read_text(encoding="utf-8"))
    require(len(summary["metric_per_case"]) == 1, "the prediction is not scored")
    page = (predictions / "report.html").read_text(encoding="utf-8")
    require("Cases to look at" in page, "the report shows no case")


def run(words: list[str], environment: dict[str, str]) -> None:
    """Run a command of samnet; end with its output where it fails."""
    began = time.monotonic()
    process = subprocess.run(
        [str(command("samnet")), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    require(process.returncode == 0, f"samnet {' '.join(words)} failed:\n{process.stdout}")
    print(f"  samnet {words[0]}: {time.monotonic() - began:.0f} s")


def command(script: str) -> Path:
    """Return the path of a script in the environment of this Python."""
    return Path(sysconfig.get_path("scripts")) / script


def require(holds: bool, otherwise: str) -> None:
    """End with a message where something does not hold."""
    if not holds:
        sys.exit(f"smoke test: {otherwise}")


if __name__ == "__main__":
    main()
