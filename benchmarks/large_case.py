"""Measure the peak memory of planning, preparing and predicting large cases with many classes.

Writes a CT-like synthetic data set (by default 60 classes in 512 x 512 x 400 voxels, two cases),
and runs the commands that a user would type, each with one worker process. The peak of a step is
the resident memory of its largest process, as the kernel counts it.

    python benchmarks/large_case.py --folder WORK --output large_case.json
    python benchmarks/large_case.py --folder WORK --steps preprocess predict

The model that predicts is the planned network on the `small` backbone without training. Its labels
mean nothing, but its memory does not depend on them. The synthetic cases are kept in the folder;
everything else in there is written again. Does not run on Windows, whose kernel does not count
memory in this way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from measuring import describe_machine, write_result

from samnet.dataset.dataset_folder import DatasetFolder

DATASET = "Dataset960_Large"
STEPS = ("verify", "fingerprint", "plan", "preprocess", "predict", "probabilities")
BOUND_GIB = 4.0
SPACING = (0.8, 0.8, 1.0)
UNTRAINED = """
import sys
from pathlib import Path
from samnet.models.base import find_base_file, record_base
from samnet.models.model_folder import FINAL, RunFolder
from samnet.models.network import build_network, save_weights
from samnet.plan.plan import Plan
plan, run = Plan.load(Path(sys.argv[1])).only("lora"), RunFolder(Path(sys.argv[2]))
configuration = plan.single_configuration
network = build_network(configuration, len(plan.channel_names), plan.label_scheme.num_outputs)
plan.save(run.plan_file)
record_base(configuration, run, find_base_file(configuration))
save_weights(network.adapter(), run.checkpoint(FINAL))
"""


def main() -> None:
    """Run the benchmark."""
    options = parse()
    folder = options.folder.resolve()
    write_dataset(dataset_folder(folder).raw, options.cases, options.classes, tuple(options.shape))
    results = [run_step(step, folder) for step in options.steps]
    report = {
        "shape": list(options.shape),
        "classes": options.classes,
        "cases": options.cases,
        "bound_gib": BOUND_GIB,
        "steps": results,
        "machine": describe_machine(),
    }
    print(json.dumps(report, indent=2))
    write_result(report, options.output)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder for the data; needs about 1 GB"
    )
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--classes", type=int, default=60)
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(512, 512, 400), metavar=("X", "Y", "Z")
    )
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    return parser.parse_args()


def dataset_folder(folder: Path) -> DatasetFolder:
    """Return where the files of the data set lie.

    Args:
        folder: The folder to work in.
    """
    paths = [folder / name / DATASET for name in ("raw", "preprocessed", "results")]
    return DatasetFolder(DATASET, *paths)


def write_dataset(folder: Path, cases: int, classes: int, shape: tuple[int, int, int]) -> None:
    """Write the raw data set. Cases that exist already are kept.

    Args:
        folder: The folder of the data set.
        cases: Number of cases.
        classes: Number of classes without the background.
        shape: Number of voxels along `(X, Y, Z)`.
    """
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = {f"structure_{value}": value for value in range(1, classes + 1)}
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | names,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    affine = np.diag([*SPACING, 1.0])
    for number in range(cases):
        label_file = folder / "labelsTr" / f"case_{number}.nii.gz"
        image_file = folder / "imagesTr" / f"case_{number}_0000.nii.gz"
        if image_file.is_file():
            continue
        image, labels = synthetic_case(np.random.default_rng(number), classes, shape)
        nibabel.save(nibabel.Nifti1Image(labels, affine), label_file)
        nibabel.save(nibabel.Nifti1Image(image, affine), image_file)


def synthetic_case(
    generator: np.random.Generator, classes: int, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a synthetic CT with one ellipsoid for each class, in noise.

    Args:
        generator: The source of random numbers.
        classes: Number of classes without the background.
        shape: Number of voxels along `(X, Y, Z)`.

    Returns:
        Hounsfield units `(X, Y, Z)` int16 and labels `(X, Y, Z)` uint8.
    """
    image = generator.integers(-30, 30, shape, dtype=np.int16)
    image[:8], image[-8:] = -1000, -1000
    labels = np.zeros(shape, np.uint8)
    size = np.array(shape)
    for value in range(1, classes + 1):
        radii = size * generator.uniform(0.02, 0.08, 3) + 1
        centre = generator.uniform(radii, size - radii)
        low = np.maximum(centre - radii, 0).astype(int)
        high = np.minimum(centre + radii + 1, size).astype(int)
        box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        axes = [
            (np.arange(low[axis], high[axis]) - centre[axis]) / radii[axis] for axis in range(3)
        ]
        inside = sum(distance**2 for distance in np.ix_(*axes)) <= 1
        labels[box][inside] = value
        image[box][inside] += np.int16(20 * value)
    return image, labels


def run_step(step: str, folder: Path) -> dict[str, str | float | bool]:
    """Run one step in a separate process, after removing what an earlier run of it wrote.

    Args:
        step: One of `STEPS`.
        folder: The folder to work in.

    Returns:
        The name of the step, its seconds, the peak of its largest process in GiB, and whether that
        is within the bound.
    """
    dataset, run = dataset_folder(folder), folder / "model" / "fold_0"
    written = {
        "fingerprint": dataset.preprocessed,
        "preprocess": dataset.slices,
        "predict": folder / "predictions",
        "probabilities": folder / "predictions",
    }
    if step in written:
        shutil.rmtree(written[step], ignore_errors=True)
    if step in ("predict", "probabilities"):
        run.mkdir(parents=True, exist_ok=True)
        peak_of(["-c", UNTRAINED, str(dataset.plan_file), str(run)], folder)
    started = time.monotonic()
    peak = peak_of(["-m", "samnet", *samnet_command(step, folder)], folder)
    seconds = time.monotonic() - started
    print(f"{step}: {peak:.2f} GiB, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {
        "step": step,
        "peak_gib": round(peak, 3),
        "seconds": round(seconds, 1),
        "within_bound": peak <= BOUND_GIB,
    }


def samnet_command(step: str, folder: Path) -> list[str]:
    """Return samnet's command for a step.

    Args:
        step: One of `STEPS`.
        folder: The folder to work in.

    Returns:
        The name of the command and its arguments.
    """
    given = ["-d", DATASET[7:10], "-np", "1"]
    image = dataset_folder(folder).training_images / "case_0_0000.nii.gz"
    files = ["-i", str(image), "-o", str(folder / "predictions")]
    model = ["--device", "cpu", "-m", str(folder / "model"), "-f", "0"]
    commands = {
        "verify": ["verify_dataset", *given],
        "fingerprint": ["extract_fingerprint", *given],
        "plan": ["plan", *given, "--device", "cpu", "--overwrite"],
        "preprocess": ["preprocess", *given],
        "predict": ["predict", *files, *model],
        "probabilities": ["predict", *files, *model, "--save-probabilities"],
    }
    return commands[step]


def peak_of(arguments: Sequence[str], folder: Path) -> float:
    """Run Python and return the peak memory of its largest process, child processes included.

    Args:
        arguments: The arguments of Python.
        folder: The folder to work in.

    Returns:
        The resident memory in GiB.

    Raises:
        SystemExit: The process failed.
    """
    names = {
        "samnet_raw": "raw",
        "samnet_preprocessed": "preprocessed",
        "samnet_results": "results",
    }
    environment = os.environ | {variable: str(folder / name) for variable, name in names.items()}
    process = subprocess.Popen([sys.executable, *arguments], env=environment)
    # The kernel's count for a process that was waited for includes the largest of those that it had
    # waited for itself.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments[:3])} failed with exit code {process.returncode}")
    return _bytes(usage) / 2**30


def _bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
