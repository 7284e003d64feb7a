"""Files of probabilities, as numpy and nnU-Net read them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samnet.core.errors import UserError
from samnet.inference.probability_files import (
    ProbabilityReader,
    open_probabilities,
    probability_file,
    write_probabilities,
)

SHAPE = (3, 4, 5, 6)


def values() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE).astype(np.float16)


def parts() -> Iterator[np.ndarray]:
    """Yield `values()` in parts of 3 and 1 slices, which are not contiguous in memory."""
    for output in values():
        yield np.asfortranarray(output[:3])
        yield output[3:].astype(np.float32)


def read_all(reader: ProbabilityReader) -> np.ndarray:
    slices = [reader.next_slices(2) for _ in range(SHAPE[0] * SHAPE[1] // 2)]
    reader.check_end()
    return np.concatenate(slices).reshape(SHAPE)


def test_written_probabilities_are_read_by_numpy_and_part_by_part(tmp_path: Path) -> None:
    file = probability_file(tmp_path, "case_1.v2")
    assert file.name == "case_1.v2.npz"
    write_probabilities(file, SHAPE, parts())
    with np.load(file) as content:
        assert list(content) == ["probabilities"]
        assert content["probabilities"].dtype == np.float16
        assert np.array_equal(content["probabilities"], values())
    with open_probabilities(file) as reader:
        assert reader.shape == SHAPE
        assert np.array_equal(read_all(reader), values())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_probabilities_that_numpy_has_saved_are_read(tmp_path: Path, save, kind: type) -> None:
    save(tmp_path / "a.npz", probabilities=values().astype(kind))
    with open_probabilities(tmp_path / "a.npz") as reader:
        assert np.array_equal(read_all(reader), values())


def test_a_file_that_is_not_written_to_its_end_does_not_exist(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from list(parts())[:2]
        raise MemoryError

    with pytest.raises(MemoryError):
        write_probabilities(tmp_path / "a.npz", SHAPE, failing())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (values()[0], r"holds float16 of shape \(4, 5, 6\)"),
        (values().astype(int), r"holds int64 of shape \(3, 4, 5, 6\)"),
        (np.asfortranarray(values()), r"holds float16 of shape \(3, 4, 5, 6\) by columns"),
        (np.empty(SHAPE, object), "holds object"),
    ],
    ids=["three axes", "integers", "by columns", "objects"],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, found: str) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, probabilities=array)
    with pytest.raises(UserError, match=rf"a\.npz: {found}"), open_probabilities(file):
        pass


def test_files_without_probabilities_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    with pytest.raises(UserError, match=r"a\.npz: no such file"), open_probabilities(file):
        pass
    file.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"a\.npz: is damaged"), open_probabilities(file):
        pass
    np.savez(file, softmax=values())
    message = r"a\.npz: holds no array `probabilities`"
    with pytest.raises(UserError, match=message), open_probabilities(file):
        pass
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("probabilities.npy", b"no array")
    with pytest.raises(UserError, match=r"a\.npz: is damaged"), open_probabilities(file):
        pass


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_damaged_file_is_never_read_to_its_end(tmp_path: Path, place: float) -> None:
    file = tmp_path / "a.npz"
    write_probabilities(file, SHAPE, parts())
    content = bytearray(file.read_bytes())
    end = content.index(b"PK\x01\x02")  # of the compressed array
    content[int(place * end)] ^= 0xFF
    file.write_bytes(content)
    with (
        pytest.raises(UserError, match=r"a\.npz: is damaged .*predict the case again"),
        open_probabilities(file) as reader,
    ):
        read_all(reader)


def test_an_array_shorter_or_longer_than_its_header_says_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    for slabs in (list(parts())[:-1], [*parts(), values()[0]]):
        write_probabilities(file, SHAPE, slabs)
        with (
            pytest.raises(UserError, match=r"is damaged \(it (ends too early|is longer)"),
            open_probabilities(file) as reader,
        ):
            read_all(reader)
