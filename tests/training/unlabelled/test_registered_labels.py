"""Labels of a run's cases without labels, taken over from its labelled cases."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import make_case, make_configuration
from scipy import ndimage

from samnet.core.files import write_json
from samnet.core.records import to_json
from samnet.preprocessing.storage import StoredCase
from samnet.training.unlabelled.registered_labels import (
    RegisteredLabels,
    load_registered,
    take_labels,
)

SHAPE = (12, 24, 24)
NUMBER = 2


def make(folder: Path, name: str, shift: int = 0, *, has_structure: bool = True) -> StoredCase:
    """Store a body with a bright structure of label 1, moved along X, and 9 in its first slice."""
    place = np.indices(SHAPE) - np.array([5.5, 11.5, 11.5 + shift])[:, None, None, None]
    lengths = np.array([5, 10, 9])[:, None, None, None]
    body = ((place / lengths) ** 2).sum(0) < 1
    offset = np.array([0, 2, -3])[:, None, None, None]
    inner = (((place - offset) / 3.5) ** 2).sum(0) < 1
    image = 90.0 * body + (70.0 * inner if has_structure else 0)
    image = ndimage.gaussian_filter(image, 0.6)
    image += np.random.default_rng(len(name)).normal(20, 2, SHAPE)
    labels = inner.astype(np.uint8)
    labels[0] = 9
    stored = image.clip(1, 255).astype(np.uint8)[None]
    return make_case(folder, stored, labels, name=name, views=(0, 1))


@pytest.fixture
def labelled(tmp_path: Path) -> list[StoredCase]:
    return [make(tmp_path / "labelled", "one")]


@pytest.fixture
def others(tmp_path: Path) -> list[StoredCase]:
    return [make(tmp_path / "others", f"other_{shift}", shift) for shift in (-2, -1, 1, 2)]


def take(
    labelled: Sequence[StoredCase], others: Sequence[StoredCase], folder: Path, **changes: Any
) -> RegisteredLabels:
    given: dict[str, Any] = {
        "windows": make_configuration().intensity,
        "number": NUMBER,
        "seed": 0,
        "ignore_label": 9,
        "processes": 0,
    }
    return take_labels(labelled, others, folder=folder, **(given | changes))


def structure(case: StoredCase) -> np.ndarray:
    return case.labels() == 1


def test_some_cases_take_labels_over_that_lie_on_their_structure(
    labelled: list[StoredCase], others: list[StoredCase], tmp_path: Path
) -> None:
    found = take(labelled, others, tmp_path / "taken")
    assert (found.num_compared, len(found.similarities), len(found.cases)) == (4, 3, NUMBER)
    assert found.is_used
    assert found.kept_contrast > 0.7
    assert "taken over for 3 of 4 cases without labels. The 2 that are most" in found.report()
    assert f"keep {found.kept_contrast:.0%} of their contrast and are learnt" in found.report()
    left_out = set(found.similarities) - set(found.cases)
    lowest = min(found.similarities[name] for name in found.cases)
    assert [found.similarities[name] <= lowest for name in left_out] == [True]
    cases = load_registered(others, tmp_path / "taken")
    assert sorted(case.identifier for case in cases) == list(found.cases)
    truth = {case.identifier: structure(case) for case in others}
    for case in cases:
        both = (structure(case) & truth[case.identifier]).sum()
        assert 2 * both / (structure(case).sum() + truth[case.identifier].sum()) > 0.85
        assert np.array_equal(case.label_slice(1, 12), case.labels()[:, 12])  # in every view
        shown = np.flatnonzero(structure(case).any(axis=(0, 2)))
        assert case.record.class_slices["1"]["1"] == tuple(shown)
        assert pickle.loads(pickle.dumps(case)).labels_folder == tmp_path / "taken"


def test_seed_decides_which_cases(labelled: list[StoredCase], tmp_path: Path) -> None:
    others = [make(tmp_path / "many", f"many_{index}", index % 3 - 1) for index in range(8)]
    chosen = {
        tuple(take(labelled, others, tmp_path / f"of {seed}", number=1, seed=seed).similarities)
        for seed in (0, 0, 1, 2, 3)
    }
    assert 1 < len(chosen) <= 4
    again = take(labelled, others, tmp_path / "again", number=1, seed=0)
    assert again == take(labelled, others, tmp_path / "of 0", number=1)


def test_finished_labels_are_kept_and_a_stopped_registration_is_continued(
    labelled: list[StoredCase], others: list[StoredCase], tmp_path: Path
) -> None:
    folder = tmp_path / "taken"
    found = take(labelled, others, folder)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    dates = {file: file.stat().st_mtime_ns for file in before}
    assert take(labelled, others, folder) == found
    assert {file: file.stat().st_mtime_ns for file in before} == dates
    # As a run leaves it that was killed before the last case.
    record = folder / "registration.json"
    write_json(record, to_json(replace(found, cases=(), is_used=False, is_finished=False)))
    lost = [file for file in before if file.name.startswith(found.cases[-1])]
    for file in lost:
        file.unlink()
    assert take(labelled, others, folder) == found
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    written = {file for file in before if file.stat().st_mtime_ns != dates[file]}
    assert written == {record, *lost}


def test_labels_of_other_cases_are_replaced(
    labelled: list[StoredCase], others: list[StoredCase], tmp_path: Path
) -> None:
    folder = tmp_path / "taken"
    take(labelled, others, folder)
    fewer = take(labelled, others, folder, number=1)
    assert len(fewer.similarities) == 2
    assert len(list(folder.glob("*_view0*"))) == 2  # nothing stays of the others


def test_structures_that_are_not_there_are_not_learnt(
    labelled: list[StoredCase], tmp_path: Path
) -> None:
    others = [make(tmp_path / "others", f"o{k}", k, has_structure=False) for k in (-1, 1, 2)]
    found = take(labelled, others, tmp_path / "taken")
    assert not found.is_used
    assert "lie elsewhere in each image: these labels are not learnt from" in found.report()
    assert load_registered(others, tmp_path / "taken") == []


def test_images_that_are_not_alike_are_not_learnt_from(
    labelled: list[StoredCase], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(1, 255, (1, *SHAPE)).astype(np.uint8)
    empty = np.zeros(SHAPE, np.uint8)
    others = [make_case(tmp_path / "others", noise, empty, name="noise", views=(0, 1))]
    found = take(labelled, others, tmp_path / "taken")
    assert (found.cases, found.is_used) == ((), False)
    highest = found.similarities["noise"]
    assert highest < 0.8
    assert f"is {highest:.2f} at most, and 0.8 is needed" in found.report()
    assert load_registered(others, tmp_path / "taken") == []


def test_case_that_cannot_be_registered_is_named_and_left_out(
    labelled: list[StoredCase], others: list[StoredCase], tmp_path: Path
) -> None:
    flat = make_case(
        tmp_path / "others",
        np.random.default_rng(0).integers(1, 255, (1, 1, 24, 24)).astype(np.uint8),
        np.zeros((1, 24, 24), np.uint8),
        name="flat",
        views=(0, 1),
    )
    found = take(labelled, [flat, *others], tmp_path / "taken", number=5)
    assert list(found.failures) == ["flat"]
    assert "not registered: flat (" in found.report()
    none = take(labelled, [flat], tmp_path / "none")
    assert none.report().startswith("none of 1 cases without labels could be registered (flat: ")
    assert set(found.similarities) == {case.identifier for case in others}


def test_worker_processes_find_the_same(
    labelled: list[StoredCase], others: list[StoredCase], tmp_path: Path
) -> None:
    folders = [tmp_path / "here", tmp_path / "in workers"]
    one, other = (
        take(labelled, others, folder, processes=processes, number=2)
        for processes, folder in enumerate(folders)
    )
    assert one == other
    for name in one.cases:
        files = [next(folder.glob(f"{name}_view0*")) for folder in folders]
        assert files[0].read_bytes() == files[1].read_bytes()
