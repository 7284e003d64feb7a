"""Prepared cases on disk.

There is one blosc2 array for each view, with one chunk for each slice, and a JSON record that is
written last.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import blosc2
import numpy as np

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.geometry import Box, Grid, Margins, Reorientation
from samnet.core.records import from_json, to_json
from samnet.preprocessing.case import PreparedVolume

# For CT, files are a tenth larger than with ZSTD, written in a third and read in half of the time.
_COMPRESSION = {"codec": blosc2.Codec.LZ4, "clevel": 1, "nthreads": 1}
# With each chunk that is added to a file, blosc2 compresses the table of all chunks again. For that
# it starts and ends four threads, whatever `nthreads` says, which takes most of the time of a small
# case. This variable alone keeps it from that.
os.environ.setdefault("BLOSC_NTHREADS", "1")
# The threads of blosc2 do not survive a fork, and a forked sample worker waits for them forever.
_DECOMPRESSION = {"nthreads": 1}


@dataclass(frozen=True)
class CaseRecord:
    """What is known of a prepared case without opening its arrays.

    Attributes:
        identifier: Name of the case.
        source_key: Key of the raw files from which it was prepared: of their contents, and of how
            they are read.
        spacing: Distance of voxel centres along the canonical `(Z, Y, X)` in mm.
        shape: Number of voxels along the canonical `(Z, Y, X)`, cropped.
        native_shape: Number of voxels along the file's own `(Z, Y, X)`.
        native_affine: 4 x 4 matrix from the file's voxel indices `(x, y, z)` to mm in RAS+.
        box_start: First voxel of the crop on the canonical grid along `(Z, Y, X)`.
        box_stop: First voxel behind the crop along `(Z, Y, X)`.
        quantiles: `channel_quantiles` of each channel, `(C, 201)`.
        class_slices: For each view (by its axis), class value -> the slices that show it.
    """

    identifier: str
    source_key: str
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    native_shape: tuple[int, int, int]
    native_affine: tuple[tuple[float, ...], ...]
    box_start: tuple[int, int, int]
    box_stop: tuple[int, int, int]
    quantiles: tuple[tuple[float, ...], ...]
    class_slices: dict[str, dict[str, tuple[int, ...]]]


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on disk. Its arrays are opened when they are first read.

    Attributes:
        folder: Folder of the prepared cases.
        record: What is known of the case.
        labels_folder: Folder of its label maps, where they are not with its image: those that
            `store_labels` has written.
    """

    folder: Path
    record: CaseRecord
    labels_folder: Path | None = None
    _open_arrays: dict[Path, blosc2.NDArray] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def identifier(self) -> str:
        """Name of the case."""
        return self.record.identifier

    @cached_property
    def quantiles(self) -> np.ndarray:
        """`channel_quantiles` of each channel, `(C, 201)`."""
        return np.array(self.record.quantiles)

    @property
    def files(self) -> list[Path]:
        """Its files; the record, with which the case exists, is the first."""
        folder, name, axes = self.folder, self.identifier, map(int, self.record.class_slices)
        files = [_record_file(folder, name)]
        for axis in axes:
            files += [_image_file(folder, name, axis), _label_file(folder, name, axis)]
        return files

    def in_plane_spacing(self, axis: int) -> tuple[float, float]:
        """Return the spacing of the rows and columns of slices.

        Args:
            axis: The canonical axis across which the slices lie.

        Returns:
            Both spacings in mm.
        """
        rows, columns = (value for index, value in enumerate(self.record.spacing) if index != axis)
        return rows, columns

    def margins(self, axis: int) -> Margins:
        """Return what was cropped of slices.

        Args:
            axis: The canonical axis across which the slices lie.

        Returns:
            Pixels before and behind, of rows and of columns.
        """
        record = self.record
        native = Grid(record.native_shape, np.array(record.native_affine))
        box = Box(record.box_start, record.box_stop)
        return box.margins(Reorientation(native).canonical_grid.shape, axis)

    def num_slices(self, axis: int) -> int:
        """Return the number of slices across an axis.

        Args:
            axis: The canonical axis.

        Returns:
            Their number.
        """
        return self.record.shape[axis]

    def stored_types(self, axis: int) -> tuple[np.dtype, np.dtype]:
        """Return the types of the stored numbers.

        Args:
            axis: The canonical axis across which the slices lie.

        Returns:
            Those of the image and of the label map.

        Raises:
            SamnetError: An array of this view is missing.
        """
        image = self._open(_image_file(self.folder, self.identifier, axis))
        return image.dtype, self._open(self._labels(axis)).dtype

    def image_slices(self, axis: int, indices: list[int]) -> np.ndarray:
        """Read slices of the image.

        Args:
            axis: The canonical axis across which they lie.
            indices: Slice numbers, in any order.

        Returns:
            Raw intensities `(len(indices), C, H, W)`.

        Raises:
            SamnetError: The array of this view is missing.
        """
        array = self._open(_image_file(self.folder, self.identifier, axis))
        return np.stack([array[index] for index in indices])

    def label_slice(self, axis: int, index: int) -> np.ndarray:
        """Read one slice of the label map.

        Args:
            axis: The canonical axis across which it lies.
            index: Its number.

        Returns:
            Labels `(H, W)`.

        Raises:
            SamnetError: The array of this view is missing.
        """
        return self._open(self._labels(axis))[index]

    def volume(self) -> PreparedVolume:
        """Read the whole image in canonical form.

        Returns:
            The image as it was prepared.

        Raises:
            SamnetError: The array of the first view is missing.
        """
        axis = self._any_view()
        slices = self._open(_image_file(self.folder, self.identifier, axis))[:]
        channels_first = np.moveaxis(slices, 1, 0)
        record = self.record
        return PreparedVolume(
            array=np.ascontiguousarray(np.moveaxis(channels_first, 1, axis + 1)),
            spacing=record.spacing,
            quantiles=self.quantiles,
            native=Grid(record.native_shape, np.array(record.native_affine)),
            box=Box(record.box_start, record.box_stop),
        )

    def labels(self) -> np.ndarray:
        """Read the whole label map.

        Returns:
            Labels `(Z, Y, X)`, canonical and cropped.

        Raises:
            SamnetError: The array of the first view is missing.
        """
        axis = self._any_view()
        slices = self._open(self._labels(axis))[:]
        return np.moveaxis(slices, 0, axis)

    def _labels(self, axis: int) -> Path:
        return _label_file(self.labels_folder or self.folder, self.identifier, axis)

    def _any_view(self) -> int:
        return int(next(iter(self.record.class_slices)))

    def _open(self, file: Path) -> blosc2.NDArray:
        if file not in self._open_arrays:
            if not file.is_file():
                raise SamnetError(f"{file}: is missing; run samnet_preprocess again")
            self._open_arrays[file] = blosc2.open(str(file), mode="r", dparams=_DECOMPRESSION)
        return self._open_arrays[file]

    def __reduce__(self) -> tuple:
        # Open arrays cannot be sent to worker processes.
        return StoredCase, (self.folder, self.record, self.labels_folder)


def store_case(
    folder: Path,
    identifier: str,
    source_key: str,
    volume: PreparedVolume,
    labels: np.ndarray,
    views: tuple[int, ...],
) -> None:
    """Write a prepared case. It exists from the moment its record does.

    The record of a case that was prepared from other files is removed first. Otherwise, if the
    process is killed half way, the old record would stand for new arrays.

    Args:
        folder: Folder of the prepared cases.
        identifier: Name of the case.
        source_key: Key of the contents of its raw files.
        volume: The image.
        labels: Its label map `(Z, Y, X)`, canonical and cropped as `volume.array`.
        views: The canonical axes across which slices are stored.
    """
    if not stored_views(folder, identifier, source_key):
        _record_file(folder, identifier).unlink(missing_ok=True)
    class_slices = {}
    for axis in views:
        across = np.moveaxis(labels, axis, 0)
        _write_array(_label_file(folder, identifier, axis), across)
        _write_array(_image_file(folder, identifier, axis), np.moveaxis(volume.array, axis + 1, 0))
        class_slices[str(axis)] = _slices_by_class(across)
    record = CaseRecord(
        identifier=identifier,
        source_key=source_key,
        spacing=volume.spacing,
        shape=labels.shape,
        native_shape=volume.native.shape,
        native_affine=_as_floats(volume.native.affine),
        box_start=volume.box.start,
        box_stop=volume.box.stop,
        quantiles=_as_floats(volume.quantiles),
        class_slices=class_slices,
    )
    write_json(_record_file(folder, identifier), to_json(record))


def store_labels(folder: Path, case: StoredCase, labels: np.ndarray) -> None:
    """Write labels of a case into another folder than that of its image.

    Args:
        folder: The folder, which then is the `labels_folder` of the case.
        case: The case.
        labels: Labels `(Z, Y, X)`, canonical and cropped as the case.
    """
    for axis in map(int, case.record.class_slices):
        _write_array(_label_file(folder, case.identifier, axis), np.moveaxis(labels, axis, 0))


def has_labels(folder: Path, case: StoredCase) -> bool:
    """Tell whether `store_labels` has written all labels of a case.

    Args:
        folder: The folder of its labels.
        case: The case.
    """
    axes = map(int, case.record.class_slices)
    return all(_label_file(folder, case.identifier, axis).is_file() for axis in axes)


def with_labels(case: StoredCase, folder: Path) -> StoredCase:
    """Return a case with the labels that `store_labels` has written.

    Args:
        case: The case.
        folder: The folder of its labels.

    Returns:
        The case, whose record tells the slices of these labels.
    """
    found = StoredCase(folder=case.folder, record=case.record, labels_folder=folder)
    labels, axes = found.labels(), map(int, case.record.class_slices)
    slices = {str(axis): _slices_by_class(np.moveaxis(labels, axis, 0)) for axis in axes}
    return replace(found, record=replace(case.record, class_slices=slices))


def _as_floats(table: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in table)


def load_case(folder: Path, identifier: str) -> StoredCase:
    """Open a prepared case.

    Args:
        folder: Folder of the prepared cases.
        identifier: Name of the case.

    Returns:
        The case.

    Raises:
        UserError: It has not been prepared, or its record is damaged.
    """
    file = _record_file(folder, identifier)
    if not file.is_file():
        raise UserError(
            f"case {identifier!r} is not prepared ({file} is missing); run samnet_preprocess"
        )
    return StoredCase(folder, from_json(CaseRecord, read_json(file), str(file)))


def stored_views(folder: Path, identifier: str, source_key: str) -> tuple[int, ...]:
    """Return the views in which a case is completely prepared from given raw files.

    Args:
        folder: Folder of the prepared cases.
        identifier: Name of the case.
        source_key: Key of the contents of the raw files.

    Returns:
        The axes of the views; none where a file is missing or the raw files were others.
    """
    try:
        record = load_case(folder, identifier).record
    except UserError:
        return ()
    if record.source_key != source_key:
        return ()
    views = tuple(int(axis) for axis in record.class_slices)
    for axis in views:
        for file in (_image_file(folder, identifier, axis), _label_file(folder, identifier, axis)):
            if not file.is_file():
                return ()
    return views


def _slices_by_class(across: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return class value -> the slices that show it, of slices `(N, H, W)`."""
    found: dict[str, list[int]] = {}
    for index, labels in enumerate(across):
        for value in np.flatnonzero(np.bincount(labels.ravel())):
            if value != 0:
                found.setdefault(str(value), []).append(index)
    return {value: tuple(indices) for value, indices in sorted(found.items())}


def _write_array(file: Path, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array)
    with atomic_path(file) as temporary:
        chunk = (1, *array.shape[1:])
        blosc2.asarray(array, chunks=chunk, urlpath=str(temporary), mode="w", cparams=_COMPRESSION)


def _image_file(folder: Path, identifier: str, axis: int) -> Path:
    return folder / f"{identifier}_view{axis}_image.b2nd"


def _label_file(folder: Path, identifier: str, axis: int) -> Path:
    return folder / f"{identifier}_view{axis}_labels.b2nd"


def _record_file(folder: Path, identifier: str) -> Path:
    return folder / f"{identifier}.json"
