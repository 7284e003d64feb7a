"""The commands, links and examples of the README."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith("samnet_") and not line.startswith("samnet_data/")
]


def test_readme_shows_the_commands_of_a_whole_project() -> None:
    """The tests below take the commands from it, and must not find none."""
    shown = {command.split()[0] for command in COMMANDS}
    assert {"samnet_plan_and_preprocess", "samnet_train", "samnet_predict"} <= shown
    assert len(COMMANDS) == sum(
        line.startswith("samnet_") and not line.startswith("samnet_data/")
        for line in README.read_text(encoding="utf-8").splitlines()
    )


def run(line: str) -> int:
    words = shlex.split(line)
    return importlib.import_module(f"samnet.cli.{words[0].removeprefix('samnet_')}").main(words[1:])


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_readme_commands_are_accepted_by_the_parsers(line: str) -> None:
    words = shlex.split(line)
    command = importlib.import_module(f"samnet.cli.{words[0].removeprefix('samnet_')}").COMMAND
    command.parser().parse_args(words[1:])


def test_readme_links_lead_to_files() -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_readme_example_of_a_description_is_valid(tmp_path: Path) -> None:
    from samnet.dataset.description import DatasetDescription

    (example,) = (block for language, block in BLOCKS if language == "json")
    file = tmp_path / "dataset.json"
    file.write_text(example, encoding="utf-8")
    assert DatasetDescription.load(file).label_scheme.class_names == ("liver", "tumour")


def test_readme_first_commands_and_python_example_work_as_written(
    make_dataset: Any, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_dataset(folders["raw"], number=8, name="Liver", num_cases=3, num_test=2)
    # With a GPU, a backbone would be planned whose weights have to be downloaded.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagesTs").symlink_to(folders["raw"] / "Dataset008_Liver" / "imagesTs")
    plan, train, predict = BLOCKS[0][1].strip().splitlines()
    assert run(plan) == 0
    _shorten(folders["preprocessed"] / "Dataset008_Liver" / "samnetPlans.json")
    assert run(train) == 0
    assert run(predict) == 0
    assert len(list((tmp_path / "preds").glob("*.nii.gz"))) == 2

    (snippet,) = (block for language, block in BLOCKS if language == "python")
    snippet = snippet.replace("samnet_data/results", str(folders["results"]))
    (tmp_path / "scan.nii.gz").symlink_to(next((tmp_path / "imagesTs").glob("*.nii.gz")))
    names: dict[str, Any] = {
        "array": np.random.default_rng(0).normal(size=(24, 20, 4)),
        "affine": np.diag([1.0, 1.0, 3.0, 1.0]),
    }
    exec(snippet, names)  # the code of our own README
    assert names["labels"].shape == (24, 20, 4)


def _shorten(plan: Path) -> None:
    """Edit the plan by hand, as a user may: two steps instead of thousands."""
    content = json.loads(plan.read_text(encoding="utf-8"))
    for key, value in (("steps", 2), ("steps_per_epoch", 2), ("batch_size", 1)):
        content["configurations"]["lora"]["decisions"][key] = value
    plan.write_text(json.dumps(content), encoding="utf-8")
