"""Prepared cases on disk: what is stored is read back, and what is missing is reported."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest

from samnet.core.errors import SamnetError, UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.preprocessing.case import PreparedVolume, prepare_volume
from samnet.preprocessing.storage import StoredCase, load_case, store_case, stored_views

SHAPE = (5, 7, 9)


def make_volume(num_channels: int = 1, dtype: type = np.int16) -> tuple[PreparedVolume, np.ndarray]:
    generator = np.random.default_rng(0)
    image = generator.integers(1, 255, (num_channels, *SHAPE)).astype(dtype)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:4, 5] = 1
    labels[4, 6, 8] = 12
    return prepare_volume(image, Grid(SHAPE, spacing_affine((3.0, 1.1, 0.7)))), labels


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., StoredCase]:
    def save(
        volume: PreparedVolume, labels: np.ndarray, views: tuple[int, ...] = (0, 1, 2)
    ) -> StoredCase:
        store_case(tmp_path, "case", "key", volume, labels, views)
        return load_case(tmp_path, "case")

    return save


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stored_slices_are_those_of_the_volume(
    store: Callable[..., StoredCase], num_channels: int, dtype: type, axis: int
) -> None:
    volume, labels = make_volume(num_channels, dtype)
    case = store(volume, labels)
    rows, columns = (other for other in range(3) if other != axis)
    assert case.num_slices(axis) == SHAPE[axis]
    assert case.in_plane_spacing(axis) == (volume.spacing[rows], volume.spacing[columns])
    for index in range(SHAPE[axis]):
        image = case.image_slices(axis, [index])
        assert image.shape == (1, num_channels, SHAPE[rows], SHAPE[columns])
        assert image.dtype == dtype
        assert np.array_equal(image[0], volume.array.take(index, axis=axis + 1))
        assert np.array_equal(case.label_slice(axis, index), labels.take(index, axis=axis))
    several = case.image_slices(axis, [2, 0, 2])
    expected = [volume.array.take(index, axis=axis + 1) for index in (2, 0, 2)]
    assert np.array_equal(several, np.stack(expected))


@pytest.mark.parametrize("views", [(0,), (1,), (2,), (1, 2), (0, 1, 2)], ids=str)
def test_whole_case_is_read_back_from_any_view(
    store: Callable[..., StoredCase], views: tuple[int, ...]
) -> None:
    volume, labels = make_volume(2)
    case = store(volume, labels, views)
    restored = case.volume()
    assert np.array_equal(restored.array, volume.array)
    assert np.array_equal(restored.quantiles, volume.quantiles)
    assert (restored.spacing, restored.box) == (volume.spacing, volume.box)
    assert restored.native.shape == volume.native.shape
    assert np.array_equal(restored.native.affine, volume.native.affine)
    assert np.array_equal(case.labels(), labels)


def test_cropped_case_with_other_axes_is_read_back(store: Callable[..., StoredCase]) -> None:
    """Sagittal slices in the file: its axes are not the canonical ones."""
    native = Grid((9, 5, 7), np.array([[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
    image = np.zeros((1, *native.shape), np.int16)
    image[:, 2:8, 1:3, 3:7] = 100
    volume = prepare_volume(image, native)
    case = store(volume, np.ones(volume.array.shape[1:], np.uint8))
    assert case.volume().box == volume.box
    for axis in range(3):
        assert case.margins(axis) == volume.margins(axis)
        assert np.any(case.margins(axis))
    restored = case.volume().restore(case.labels())
    assert np.array_equal(restored, image[0] > 0)


def test_record_lists_the_slices_that_show_a_class(store: Callable[..., StoredCase]) -> None:
    slices = store(*make_volume()).record.class_slices
    assert slices["0"] == {"1": (1, 2), "12": (4,)}
    assert slices["1"] == {"1": (2, 3), "12": (6,)}
    assert slices["2"] == {"1": (5,), "12": (8,)}


def test_record_of_a_case_without_labels_lists_no_slices(store: Callable[..., StoredCase]) -> None:
    volume, labels = make_volume()
    case = store(volume, np.zeros_like(labels), (0,))
    assert case.record.class_slices == {"0": {}}
    assert not case.labels().any()


def test_2d_image_is_stored_as_one_slice(store: Callable[..., StoredCase]) -> None:
    image = np.arange(1, 64, dtype=np.uint8).reshape(1, 1, 7, 9)
    volume = prepare_volume(image, Grid((1, 7, 9), np.eye(4)))
    case = store(volume, np.ones((1, 7, 9), np.uint8), (0,))
    assert np.array_equal(case.image_slices(0, [0, 0, 0])[1], image[0])


def test_stored_case_is_pickled_without_its_open_arrays(
    store: Callable[..., StoredCase],
) -> None:
    case = store(*make_volume())
    case.label_slice(0, 0)
    copied = pickle.loads(pickle.dumps(case))
    assert copied.record == case.record
    assert np.array_equal(copied.label_slice(0, 1), case.label_slice(0, 1))


def test_stored_case_exists_from_the_moment_its_record_does(
    tmp_path: Path, store: Callable[..., StoredCase]
) -> None:
    store(*make_volume())
    assert stored_views(tmp_path, "case", "key") == (0, 1, 2)
    assert stored_views(tmp_path, "case", "of other raw files") == ()
    (tmp_path / "case.json").rename(tmp_path / "away.json")
    assert stored_views(tmp_path, "case", "key") == ()
    with pytest.raises(UserError, match=r"'case' is not prepared .*run samnet_preprocess"):
        load_case(tmp_path, "case")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"identifier": "case"}'])
def test_case_with_a_damaged_record_is_not_prepared(
    tmp_path: Path, store: Callable[..., StoredCase], text: str
) -> None:
    store(*make_volume())
    (tmp_path / "case.json").write_text(text)
    assert stored_views(tmp_path, "case", "key") == ()
    with pytest.raises(UserError, match=r"case\.json"):
        load_case(tmp_path, "case")


def test_missing_array_of_a_case_is_reported(
    tmp_path: Path, store: Callable[..., StoredCase]
) -> None:
    case = store(*make_volume())
    (tmp_path / "case_view1_image.b2nd").unlink()
    assert stored_views(tmp_path, "case", "key") == ()
    with pytest.raises(SamnetError, match="is missing; run samnet_preprocess again"):
        case.image_slices(1, [0])


def test_record_of_a_case_is_plain_json(tmp_path: Path, store: Callable[..., StoredCase]) -> None:
    store(*make_volume())
    content = json.loads((tmp_path / "case.json").read_text())
    assert content["shape"] == list(SHAPE)
    assert len(content["quantiles"][0]) == 201


def test_killed_half_way_leaves_no_old_record_of_new_arrays(
    tmp_path: Path, store: Callable[..., StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, labels = make_volume()
    store(volume, labels)
    write, written = blosc2.asarray, []

    def fail_at_the_second(*args: Any, **options: Any) -> Any:
        if written:
            raise OSError("the disk is full")
        written.append(options["urlpath"])
        return write(*args, **options)

    monkeypatch.setattr(blosc2, "asarray", fail_at_the_second)
    with pytest.raises(OSError, match="the disk is full"):
        store_case(tmp_path, "case", "of other raw files", volume, 1 - labels.clip(0, 1), (0,))
    assert written
    assert stored_views(tmp_path, "case", "key") == ()


def test_case_stays_while_views_are_added(
    tmp_path: Path, store: Callable[..., StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training run may read it at that moment, and the arrays stay the same."""
    volume, labels = make_volume()
    store(volume, labels, (0,))

    def fail(*args: Any, **options: Any) -> Any:
        raise OSError("the disk is full")

    monkeypatch.setattr(blosc2, "asarray", fail)
    with pytest.raises(OSError, match="the disk is full"):
        store_case(tmp_path, "case", "key", volume, labels, (0, 1))
    assert stored_views(tmp_path, "case", "key") == (0,)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here"
)
def test_forked_worker_reads_cases_after_its_parent_has(
    store: Callable[..., StoredCase],
) -> None:
    """A slice that is read by several threads left the sample worker waiting for them forever."""
    shape = (1, 1500, 1500)
    image = np.random.default_rng(0).integers(1, 255, (1, *shape)).astype(np.uint8)
    volume = prepare_volume(image, Grid(shape, spacing_affine((1.0, 1.0, 1.0))))
    case = store(volume, image[0], views=(0,))
    case.volume()
    worker = multiprocessing.get_context("fork").Process(target=case.volume)
    worker.start()
    worker.join(10)
    is_waiting = worker.is_alive()
    worker.kill()
    assert not is_waiting


def test_prepared_files_are_written_by_one_thread_on_any_machine(
    store: Callable[..., StoredCase], tmp_path: Path
) -> None:
    """By default blosc2 notes the number of cores in the header, and starts threads for slices."""
    store(*make_volume(), views=(0,))
    for kind in ("image", "labels"):
        header = (tmp_path / f"case_view0_{kind}.b2nd").read_bytes()
        assert header[62:68] == b"\xd1\0\1\xd1\0\1"  # one to write, one to read
