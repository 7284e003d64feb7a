"""Saving what clients send: label maps and images, each completely or not at all."""

from __future__ import annotations

import gzip
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX, atomic_path, read_json, write_json
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case
from samnet.dataset.formats import nifti
from samnet.dataset.formats.dicom import is_series
from samnet.dataset.images import Image, read_image, read_labels, write_labels
from samnet.dataset.label_scheme import LabelScheme
from samnet.dataset.write_conversion import copy_image
from samnet.serving.datastore import Datastore, StoredImage, label_file
from samnet.serving.errors import BadRequest, Conflict, Unusable
from samnet.serving.names import FINAL_TAG, file_name_of, label_names

log = logging.getLogger(__name__)
PREVIOUS_TAG = "previous"  # final label maps that were replaced
BINARY_ENDING = ".bin"  # voxels without a header, as OHIF sends them


def save_label(
    store: Datastore,
    identifier: str,
    file: Path,
    tag: str,
    label_info: Sequence[Any] = (),
    client: str = "",
) -> StoredImage:
    """Save the label map of an image.

    With the tag `final` it becomes training data: it goes to `labelsTr`, and the image is copied to
    `imagesTr` where it is not there yet. A final label map that it replaces is kept under the tag
    `previous`. Label maps with other tags are kept apart.

    Args:
        store: The data set.
        identifier: What the client calls the image.
        file: The label map as it was uploaded.
        tag: A checked tag.
        label_info: What the client says of the values: an object with the name of each.
        client: What the client calls itself, for the log.

    Returns:
        The image as it is stored now.

    Raises:
        NotFound: There is no such image.
        Unusable: The label map does not lie on the grid of the image, or holds other labels than
            the data set has.
        UserError: The label map or the image cannot be read.
    """
    image = store.find(identifier)
    content = read_aligned_image(image.case, len(store.description.channel_names))
    labels = _read_uploaded(file, content)
    labels = _with_values_of_dataset(labels, label_info, store.description.label_scheme)
    with store.lock:
        if tag == FINAL_TAG:
            _save_final(store, image, content, labels)
        else:
            write_labels(labels, content, label_file(store.annotations(tag), image.case))
        store.refresh(is_changed=True)
    log.info("label map of %s saved as %s%s", image.identifier, tag, f" by {client}" * bool(client))
    return store.find(image.identifier)


def save_image(store: Datastore, identifier: str, file: Path, ending: str) -> str:
    """Save an image without a label map.

    Args:
        store: The data set.
        identifier: What the client calls it.
        file: The image as it was uploaded.
        ending: Its ending with the leading dot.

    Returns:
        The name of the case.

    Raises:
        Unusable: It is not of the format of the data set, or has another number of channels.
        Conflict: There is another image of this name.
        UserError: It cannot be read.
    """
    name, description = file_name_of(identifier), store.description
    if ending != description.file_ending:
        raise Unusable(
            f"an image ending in {ending}: the images of this data set end in "
            f"{description.file_ending}"
        )
    num_channels = len(description.channel_names)
    content = read_image([file], 1)
    if content.array.shape[0] != num_channels:
        raise Unusable(
            f"the image has {content.array.shape[0]} channel(s), the data set {num_channels}: "
            f"{', '.join(description.channel_names)}. Images of several files are put into "
            f"{store.uploads.name} on the server"
        )
    with store.lock:
        known = {entry.identifier.casefold(): entry for entry in store.images()}
        if (other := known.get(name.casefold())) is not None:
            if _is_same_image(other.case, content):
                return other.identifier
            raise Conflict(f"image {name!r}: there is another one of this name; rename it")
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=store.folder.raw) as folder:
            copy_image(file, Path(folder), name, 0)
            _move_into(Path(folder), store.uploads)
        store.refresh(is_changed=True)
    log.info("image %s received", name)
    return name


def save_predicted(
    store: Datastore, identifier: str, labels: np.ndarray, image: Image, tag: str
) -> None:
    """Keep a prediction for the client that requested this.

    Args:
        store: The data set.
        identifier: What the client calls the image.
        labels: The predicted labels `(Z, Y, X)`.
        image: The image.
        tag: A checked tag.

    Raises:
        BadRequest: The tag is that of training data.
    """
    if tag == FINAL_TAG:
        raise BadRequest(
            f"label_tag {tag!r}: nothing is trained on predictions; save them as labels"
        )
    with store.lock:
        write_labels(labels, image, label_file(store.annotations(tag), store.find(identifier).case))
        store.refresh(is_changed=True)


def image_as_nifti(image: StoredImage) -> bytes:
    """Return the first channel of an image as a compressed NIfTI file.

    Args:
        image: An image of the data set, such as a DICOM series.

    Returns:
        The content of the file.

    Raises:
        UserError: The image cannot be read.
    """
    content = read_image([image.file])
    return gzip.compress(nifti.on_grid(content.array[0], content.grid).to_bytes(), 1)


def _is_same_image(case: Case, content: Image) -> bool:
    try:
        other = read_image(case.image_files)
    except UserError:
        return False
    return other.grid.difference(content.grid) is None and np.array_equal(
        other.array, content.array
    )


def _read_uploaded(file: Path, image: Image) -> np.ndarray:
    """Return the labels `(Z, Y, X)` of an uploaded file on the grid of the image."""
    if file.suffix == BINARY_ENDING:
        return _read_binary(file, image)
    labels = read_labels(file)
    difference = labels.grid.difference(image.grid)
    if difference is not None:
        raise Unusable(
            f"the label map {difference.describe('its image')}; export it on the grid of the image"
        )
    return labels.array[0]


def _read_binary(file: Path, image: Image) -> np.ndarray:
    num_voxels, num_bytes = int(np.prod(image.grid.shape)), file.stat().st_size
    for kind in (np.uint8, np.dtype("<u2")):
        if num_bytes == num_voxels * np.dtype(kind).itemsize:
            return np.fromfile(file, kind).reshape(image.grid.shape).astype(np.uint16)
    raise Unusable(
        f"the label map has {num_bytes} bytes, and the image {num_voxels} voxels; send one or two "
        "bytes for each voxel"
    )


def _with_values_of_dataset(
    labels: np.ndarray, label_info: Sequence[Any], scheme: LabelScheme
) -> np.ndarray:
    """Return labels with the values of the data set, which the client may number otherwise."""
    known = label_names(scheme)
    present = [int(value) for value in np.unique(labels) if value]
    meaning = _meaning(label_info, present)
    names = {value: meaning.get(value) for value in present} if meaning else {}
    unknown = [names[value] or f"value {value}" for value in names if names[value] not in known]
    if unknown:
        raise Unusable(
            f"the label map has {', '.join(map(repr, unknown))}; the labels of this data set are "
            f"{', '.join(known)}. Rename or delete the segments"
        )
    targets = {value: known[str(name)] for value, name in names.items()} or dict(
        zip(present, present, strict=True)
    )
    allowed = set(scheme.values)
    if scheme.ignore_label is not None:
        allowed.add(scheme.ignore_label)
    if wrong := sorted(set(targets.values()) - allowed):
        raise Unusable(
            f"the label map has the values {wrong}; those of this data set are {sorted(allowed)}"
        )
    renumbered = np.zeros(labels.shape, np.uint16)
    for value, target in targets.items():
        renumbered[labels == value] = target
    return renumbered


def _meaning(label_info: Sequence[Any], present: Sequence[int]) -> dict[int, str]:
    """Return value -> name by what the client says; empty where it says nothing usable.

    3D Slicer numbers the segments that it exports from 1 on, in the order of the list. The `idx`
    that it states also counts those that it leaves out, such as a background.
    """
    entries = [entry for entry in label_info if isinstance(entry, Mapping) and entry.get("name")]
    by_position = {number: str(entry["name"]) for number, entry in enumerate(entries, 1)}
    if set(present) <= set(by_position):
        return by_position
    by_index = {}
    for entry in entries:
        if isinstance(entry.get("idx"), int):
            by_index[entry["idx"]] = str(entry["name"])
    return by_index


def _save_final(store: Datastore, image: StoredImage, content: Image, labels: np.ndarray) -> None:
    case, folder = image.case, store.folder
    ending = store.description.label_file_ending
    previous = image.labels.get(FINAL_TAG)
    target = previous or folder.training_labels / f"{case.identifier}{ending}"
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder.raw) as temporary:
        label = Path(temporary) / "labels" / target.name
        write_labels(labels, content, label)
        images = Path(temporary) / "images"
        images.mkdir()
        if not image.is_training:
            _copy_case(case, content, images, store.description.file_ending)
        if previous is not None:
            _keep_previous(store, case, previous)
        # The image first: one without a label map still counts as not labelled.
        _move_into(images, folder.training_images)
        _move_into(label.parent, folder.training_labels)
    store.refresh(is_changed=True)
    _count_cases(store)


def _copy_case(case: Case, content: Image, folder: Path, file_ending: str) -> None:
    """Copy the images of a case under the names of training images; DICOM becomes NIfTI."""
    if not is_series(content):
        for channel, file in enumerate(case.image_files):
            copy_image(file, folder, case.identifier, channel)
        return
    if not file_ending.startswith(".nii"):
        raise Unusable(
            f"{case.identifier!r} is a DICOM series, which is stored as NIfTI, and the images of "
            f"this data set end in {file_ending}; convert the series first"
        )
    for channel, values in enumerate(content.array):
        target = folder / f"{case.identifier}_{channel:04d}{file_ending}"
        nibabel.save(nifti.on_grid(values, content.grid), target)


def _keep_previous(store: Datastore, case: Case, previous: Path) -> None:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = (
        store.annotations(PREVIOUS_TAG) / f"{case.identifier}.{stamp}{''.join(_ends(previous))}"
    )
    with atomic_path(target) as temporary:
        temporary.write_bytes(previous.read_bytes())


def _ends(file: Path) -> list[str]:
    return [".nii.gz"] if file.name.endswith(".nii.gz") else [file.suffix]


def _move_into(source: Path, target: Path) -> None:
    """Move all files of a folder into another one, each completely or not at all."""
    for file in sorted(source.iterdir()):
        with atomic_path(target / file.name) as temporary:
            os.replace(file, temporary)


def _count_cases(store: Datastore) -> None:
    """Write the number of training cases into `dataset.json`, where it states one."""
    if store.description.num_training is None:
        return
    content = read_json(store.folder.description_file)
    number = sum(image.is_training for image in store.images())
    if content.get("numTraining") != number:
        write_json(store.folder.description_file, content | {"numTraining": number})
