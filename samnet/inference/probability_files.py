"""Files of probabilities: nnU-Net's form, written and read part by part.

`CASE.npz` holds the array `probabilities` `(K, Z, Y, X)` in half precision: K classes with the
background first, or K regions, on the voxels of the label map `CASE` next to it in the order in
which SimpleITK reads them. `numpy.load` reads it.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, require_readable
from samnet.core.read_failures import raise_failure_of_machine

PROBABILITIES_ENDING = ".npz"
_ENTRY = "probabilities.npy"
# By measurement: higher levels of zlib take up to twice as long and save 1 %.
_LEVEL = 1
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError)


def probability_file(folder: Path, case: str) -> Path:
    """Return where the probabilities of a case lie.

    Args:
        folder: The folder of its label map.
        case: The name of the case.

    Returns:
        The file, whether it exists or not.
    """
    return folder / f"{case}{PROBABILITIES_ENDING}"


@contextmanager
def create_probabilities(
    file: Path, shape: tuple[int, int, int, int]
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write probabilities part by part. The file exists when all of them are written.

    Args:
        file: The `.npz`; an older one is replaced.
        shape: Number of outputs, and of voxels along `(Z, Y, X)`.

    Yields:
        A function that takes the parts, whose values follow each other in the order of the array.
    """
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    with (
        atomic_path(file) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
        archive.open(_ENTRY, "w", force_zip64=True) as entry,
    ):
        np.lib.format.write_array_header_1_0(entry, header)

        def add(slab: np.ndarray) -> None:
            entry.write(np.ascontiguousarray(slab, "<f2").data.cast("B"))

        yield add


def write_probabilities(
    file: Path, shape: tuple[int, int, int, int], slabs: Iterable[np.ndarray]
) -> None:
    """Write probabilities, of which one part exists at a time.

    Args:
        file: The `.npz`; an older one is replaced.
        shape: Number of outputs, and of voxels along `(Z, Y, X)`.
        slabs: The parts, whose values follow each other in the order of the array.
    """
    with create_probabilities(file, shape) as add:
        for slab in slabs:
            add(slab)


class ProbabilityReader:
    """Reads an open file of probabilities from its beginning to its end.

    Attributes:
        file: The file.
        shape: Number of outputs, and of voxels along `(Z, Y, X)`.
    """

    def __init__(self, file: Path, entry: IO[bytes]) -> None:
        """Read the header.

        Args:
            file: The file, for messages.
            entry: Its array.

        Raises:
            UserError: It is no such array.
        """
        self.file, self._entry = file, entry
        version = np.lib.format.read_magic(entry)
        if version not in _HEADERS:
            raise UserError(f"{file}: is in version {version} of numpy's format; write it again")
        shape, is_fortran, self._dtype = _HEADERS[version](entry)
        if len(shape) != 4 or is_fortran or self._dtype.kind != "f":
            raise UserError(
                f"{file}: holds {self._dtype} of shape {shape}{' by columns' * is_fortran}; "
                "expected floating point numbers (outputs, Z, Y, X). Write it again with "
                "samnet_predict --save-probabilities"
            )
        self.shape: tuple[int, int, int, int] = shape

    def next_slices(self, count: int) -> np.ndarray:
        """Read the next slices of the output that is read.

        Args:
            count: How many.

        Returns:
            Probabilities `(count, Y, X)`, float32.

        Raises:
            UserError: The file is damaged.
        """
        *_, height, width = self.shape
        size = count * height * width * self._dtype.itemsize
        content = self._read(size)
        if len(content) < size:
            raise _damage(self.file, EOFError("it ends too early"))
        values = np.frombuffer(content, self._dtype).astype(np.float32)
        return values.reshape(count, height, width)

    def check_end(self) -> None:
        """Check that all was read, and that the content has its checksum.

        Raises:
            UserError: The file is damaged.
        """
        if self._read(1):
            raise _damage(self.file, ValueError("it is longer than its header says"))

    def _read(self, size: int) -> bytes:
        try:
            return self._entry.read(size)
        except _DAMAGES as error:
            raise _damage(self.file, error) from error


@contextmanager
def open_probabilities(file: Path) -> Iterator[ProbabilityReader]:
    """Open a file of probabilities.

    Args:
        file: The `.npz`.

    Yields:
        What reads it part by part.

    Raises:
        UserError: The file is missing, damaged, or holds no probabilities.
    """
    require_readable(file)
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGES as error:
        raise _damage(file, error) from error
    with archive:
        if _ENTRY not in archive.namelist():
            raise UserError(f"{file}: holds no array `probabilities`")
        with archive.open(_ENTRY) as entry:
            try:
                reader = ProbabilityReader(file, entry)
            except _DAMAGES as error:
                raise _damage(file, error) from error
            yield reader


def _damage(file: Path, error: Exception) -> UserError:
    raise_failure_of_machine(file, error)
    return UserError(f"{file}: is damaged ({error}); predict the case again")
