"""How much faster a head trains on a frozen encoder's kept embeddings than with the encoder at every step.

Made data and random weights, which take as long as trained ones. One process, no workers; the two kinds of step
alternate, so that whatever else the machine does meets both. A step is a training's own: samples drawn from prepared
cases, or from embeddings on disk; forward, loss, backward, optimiser. An epoch is not measured but multiplied: it shows
each of N slices once, in N / batch steps.

    python benchmarks/frozen_head.py --backbone vit_b --size 1024 --head linear --output result.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from runs import describe_machine

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.demo.abdomen import LABELS
from samnet.demo.anatomy import make_case
from samnet.fingerprint.extract import extract_fingerprint
from samnet.models.network import build_network
from samnet.planning.configuration import CHOICES, Configuration
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_dataset
from samnet.preprocessing.storage import StoredCase, load_case
from samnet.training.embedded_samples import EmbeddedSamples, collate, embed_samples
from samnet.training.embedding_choice import CacheChoice, embedding_bytes
from samnet.training.embeddings import EmbeddingCache
from samnet.training.loop import Trainer, TrainingTask
from samnet.training.sampling import SliceSamples
from samnet.training.slice_encoder import SliceEncoder

NAME = "Dataset999_Benchmark"


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="samnet-benchmark-") as folder:
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"samnet_{name}"] = str(Path(folder) / name)
        result = measure(options, Path(folder))
    print("\n" + describe(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_b", choices=CHOICES["backbone"])
    parser.add_argument("--size", type=int, default=1024, help="edge of the input in pixels (default: 1024)")
    parser.add_argument("--head", default="linear", choices=CHOICES["head"], help="default: linear")
    parser.add_argument("--slices", type=int, default=1000, help="of the epoch that is worked out (default: 1000)")
    parser.add_argument("--batch-size", type=int, default=2, help="default: 2")
    parser.add_argument("--kept", type=int, default=8, help="slices to encode once and to train on (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="of a step with the encoder, then some from the cache")
    parser.add_argument("--cached-steps", type=int, default=10, help="of each round (default: 10)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    configuration, case = prepare(options)
    device = torch.device(options.device)
    torch.manual_seed(0)
    network = build_network(configuration, 1, len(LABELS)).to(device).train()
    given: dict[str, Any] = {"stride": network.stride, "seed": 0}
    with torch.no_grad():  # what only the first pass takes time for
        network.embed(torch.zeros(1, 3, options.size, options.size, device=device))
    cache = EmbeddingCache(folder / "kept", CacheChoice(2 * options.kept * bytes_each(options) / 2**30, 1), [case])
    started = time.perf_counter()
    kept = embed_samples(cache, SliceEncoder(network, device), [case], configuration, ignore_label=None, **given)
    encoding = (time.perf_counter() - started) / options.kept
    whole = SliceSamples([case], configuration, **given)
    task = TrainingTask(configuration, tuple(LABELS)[1:], None, [case], [case], False, 0, None, 0)
    times = alternate(options, Trainer(network, task, folder / "run", device), whole, kept)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "asked": {key: value for key, value in vars(options).items() if key != "output"},
        "machine": describe_machine(device),
        "bytes_of_an_embedding": bytes_each(options),
        "seconds_to_encode_a_slice_once": encoding,
        "seconds_to_read_an_embedding_from_disk": read_from_disk(kept.files),
        "seconds_of_steps": times,
        "seconds_of_a_step": medians,
        "ratio": medians["encoder"] / medians["cache"],
    }


def bytes_each(options: argparse.Namespace) -> int:
    return embedding_bytes(options.size)


def prepare(options: argparse.Namespace) -> tuple[Configuration, StoredCase]:
    """A made abdomen of as many slices as are to be kept, planned and prepared as any data set."""
    folder = Path(os.environ["samnet_raw"]) / NAME
    image, labels, _ = make_case(seed=0, index=0)
    rows = np.linspace(2, len(image) - 3, options.kept).round().astype(int)
    for part, array in (("imagesTr/made_0000", image), ("labelsTr/made", labels)):
        file = folder / f"{part}.nii.gz"
        file.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array[rows].transpose(), np.diag([2.0, 2.0, 5.0, 1.0])), file)
    described = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    dataset = RawDataset.load(NAME)
    settings = {
        "slicing_axis": 0,
        "views": [0],
        "backbone": options.backbone,
        "initial_weights": "random",
        "encoder_tuning": "frozen",
        "input_size": options.size,
        "head": options.head,
        "batch_size": options.batch_size,
    }
    plan = make_plan(extract_fingerprint(dataset, 0), Machine(options.device.split(":")[0], 16.0), settings)
    return plan.configuration("lora"), load_case(prepare_dataset(dataset, (0,), 0), "made")


def alternate(
    options: argparse.Namespace, trainer: Trainer, whole: SliceSamples, kept: EmbeddedSamples
) -> dict[str, list[float]]:
    """Seconds of each step of each kind; the first of each warms up and does not count."""
    times: dict[str, list[float]] = {"encoder": [], "cache": []}
    for turn in range(-1, options.rounds):
        counted = turn >= 0
        for name, samples, collate_fn, count in (
            ("encoder", whole, torch.utils.data.default_collate, 1),
            ("cache", kept, collate, options.cached_steps if counted else 2),
        ):
            for step in range(count):
                seconds = time_step(trainer, samples, collate_fn, options.batch_size * (100 * turn + 100 + step))
                if counted:
                    times[name].append(seconds)
        print(f"round {turn + 1} of {options.rounds}" if counted else "warmed up", flush=True)
    return times


def time_step(trainer: Trainer, samples: SliceSamples, collate_fn: Callable[[list], Any], first: int) -> float:
    started = time.perf_counter()
    inputs, target = collate_fn(
        [samples[number] for number in range(first, first + trainer.task.configuration.batch_size)]
    )
    trainer._step(inputs, target)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def read_from_disk(files: list[Path]) -> float | None:
    """The median time to read one embedding that the system does not hold in memory; None where that cannot be had."""
    if not hasattr(os, "posix_fadvise"):
        return None
    seconds = []
    for file in files:
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for row in range(len(np.load(file, mmap_mode="r"))):
            started = time.perf_counter()
            np.array(np.load(file, mmap_mode="r")[row])
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def describe(result: dict[str, Any]) -> str:
    asked, machine, step = result["asked"], result["machine"], result["seconds_of_a_step"]
    counts = {name: len(values) for name, values in result["seconds_of_steps"].items()}
    steps = asked["slices"] / asked["batch_size"]
    once = asked["slices"] * result["seconds_to_encode_a_slice_once"]
    saved = steps * (step["encoder"] - step["cache"])
    read = result["seconds_to_read_an_embedding_from_disk"]
    lines = [
        f"{asked['backbone']} at {asked['size']}, head {asked['head']}, batch {asked['batch_size']}; "
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"torch {machine['torch']}, Python {machine['python']}, samnet {machine['samnet']}",
        f"measured, medians: a step with the encoder {step['encoder']:.3f} s ({counts['encoder']} steps), "
        f"from the cache {step['cache']:.4f} s ({counts['cache']} steps)",
        f"ratio: {result['ratio']:.1f}",
        f"an epoch of {asked['slices']} slices is {steps:.0f} such steps: {steps * step['encoder']:.0f} s with the "
        f"encoder, {steps * step['cache']:.1f} s from the cache",
        f"encoding once: {result['seconds_to_encode_a_slice_once']:.3f} s a slice (of {asked['kept']}), {once:.0f} s "
        f"for a view of each, {result['bytes_of_an_embedding'] * asked['slices'] / 1e9:.2f} GB; made up for after "
        f"{once / saved:.1f} epochs",
    ]
    if read is not None:
        lines.append(
            f"an embedding that is not in memory is read from disk in {1e3 * read:.1f} ms (in none of the steps)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
