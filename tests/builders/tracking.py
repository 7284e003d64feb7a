"""What a tracking tool has of a run, read with the tool's own code."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders.waiting import becomes_true

Points = list[tuple[int, float]]


@dataclass
class Stored:
    """What a tool has of one run."""

    name: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    points: dict[str, Points] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)


def read_tensorboard(folder: Path) -> Stored:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    stored = Stored(figures=sorted(tags["images"]))
    for tag in tags["scalars"]:
        stored.points[tag] = [(point.step, point.value) for point in events.Scalars(tag)]
    for text in events.Tensors("parameters/text_summary"):
        for row in text.tensor_proto.string_val[0].decode().splitlines()[2:]:
            name, value = row.strip("| ").split(" | ")
            stored.parameters[name] = value
    return stored


def read_mlflow(folder: Path) -> Stored:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    stored = Stored(run.info.run_name, dict(run.data.params))
    for key in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, key)
        stored.points[key] = [(point.step, point.value) for point in history]
    for file in sorted((folder / "artifacts").rglob("*.png")):
        stored.figures.append("/".join(file.with_suffix("").parts[-2:]))
    return stored


def read_wandb(folder: Path) -> Stored:
    stored = Stored()
    identifiers = set()
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        # Another process writes it.
        assert becomes_true(lambda file=file: _is_whole(file), seconds=60)
        for record in _read_records(file):
            if record.WhichOneof("record_type") == "run":
                stored.name = record.run.display_name
                identifiers.add(record.run.run_id)
                _take_config(stored, record.run.config.update)
            if record.WhichOneof("record_type") == "config":
                _take_config(stored, record.config.update)
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                if item.value_json.endswith('.png"'):
                    stored.figures.append(name.removesuffix("/path"))
                elif not item.value_json.startswith(('"', "{")):
                    point = (record.history.step.num, float(item.value_json))
                    stored.points.setdefault(name, []).append(point)
    assert len(identifiers) == 1
    return stored


def _is_whole(file: Path) -> bool:
    kinds = [record.WhichOneof("record_type") for record in _read_records(file)]
    return kinds[-1:] == ["exit"]


def _take_config(stored: Stored, items: Any) -> None:
    for item in items:
        stored.parameters[item.key] = item.value_json.strip('"')


def _read_records(file: Path) -> Iterator[Any]:
    """Read the records of an offline run: the log format of LevelDB, with blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left_in_block = 32768 - position % 32768
        _, length, kind = struct.unpack_from("<IHB", content, position)
        if left_in_block < 7 or kind == 0:
            position += left_in_block
            continue
        if position + 7 + length > len(content):
            return
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb}
