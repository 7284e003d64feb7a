"""The images of a data set as a server shows them: which there are, and which are labelled.

A case is found by looking its name up in a list. No name from the network becomes a path.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.dataset.case_list import read_case_list
from samnet.dataset.cases import Case, find_prediction_cases
from samnet.dataset.cases.case import label_file_of
from samnet.dataset.cases.file_names import find_image_files
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DatasetDescription
from samnet.dataset.formats.dicom_files import is_dicom, read_header
from samnet.dataset.images import ending_of, label_ending_for
from samnet.serving.errors import NotFound
from samnet.serving.names import FINAL_TAG, file_name_of, label_names

log = logging.getLogger(__name__)
UNLABELLED_FOLDER = "imagesUnlabelled"
ANNOTATION_FOLDER = "annotations"


@dataclass(frozen=True)
class StoredImage:
    """An image of the data set.

    Attributes:
        case: Its name and files; the label file is that of the tag `final`, or None.
        is_training: Whether it lies in `imagesTr`.
        labels: Tag -> label map, of those that exist.
    """

    case: Case
    is_training: bool
    labels: dict[str, Path] = field(default_factory=dict)

    @property
    def identifier(self) -> str:
        """The name of the case."""
        return self.case.identifier

    @property
    def file(self) -> Path:
        """The file of the first channel, or the folder of a DICOM series."""
        return self.case.image_files[0]

    @property
    def is_labelled(self) -> bool:
        """Whether it has a label map that is trained on."""
        return FINAL_TAG in self.labels

    @property
    def download_name(self) -> str:
        """What the image is called when it is sent: a DICOM series is sent as NIfTI."""
        ending = ending_of(self.file)
        if ending is None or self.file.is_dir():
            return f"{self.identifier}.nii.gz"
        return f"{self.identifier}{ending}"


class Datastore:
    """Images and label maps of one data set.

    Labelled images are the training cases in `imagesTr` and `labelsTr`. Images without a label map
    lie in `imagesUnlabelled`, where uploads go, and in further folders, which are only read.
    Label maps with another tag than `final` lie in `annotations/TAG`; nothing is trained on them.

    Attributes:
        folder: The paths of the data set.
        description: The content of its `dataset.json`.
        lock: Held while files are added.
    """

    def __init__(self, folder: DatasetFolder, image_folders: Sequence[Path] = ()) -> None:
        """Read what is there.

        Args:
            folder: The paths of the data set.
            image_folders: Further folders of images without label maps; DICOM series count.

        Raises:
            UserError: `dataset.json` is missing, not usable, or lists the files of the cases; or a
                folder cannot be read.
        """
        self.folder = folder
        self.description = DatasetDescription.load(folder.description_file)
        self.lock = threading.RLock()
        self._image_folders = (folder.raw / UNLABELLED_FOLDER, *image_folders)
        if read_case_list(folder.description_file) is not None:
            raise UserError(
                f"{folder.description_file}: lists the files of its cases, and label maps are "
                "saved in imagesTr and labelsTr; move them there and remove the list"
            )
        for source in image_folders:
            if not source.is_dir():
                raise UserError(f"{source}: no such folder; -i names a folder of images")
        self._images: dict[str, StoredImage] = {}
        self._aliases: dict[str, str] = {}
        self._state: tuple[int, ...] = ()
        self.refresh()

    @property
    def uploads(self) -> Path:
        """Folder of the images that clients have sent."""
        return self.folder.raw / UNLABELLED_FOLDER

    def annotations(self, tag: str) -> Path:
        """Return the folder of the label maps with a tag other than `final`.

        Args:
            tag: A checked tag.

        Returns:
            The folder, whether it exists or not.
        """
        return self.folder.raw / ANNOTATION_FOLDER / tag

    def refresh(self, *, is_changed: bool = False) -> None:
        """Look for files that were added or removed, where the date of a folder says so.

        Args:
            is_changed: Whether to look whatever the dates say, which may be too coarse.
        """
        with self.lock:
            state = tuple(self._dates())
            if state == self._state and not is_changed:
                return
            images = {image.identifier: image for image in self._unlabelled()}
            images |= {image.identifier: image for image in self._training()}
            self._aliases = _aliases(images.values())
            self._images, self._state = dict(sorted(images.items())), state

    def images(self) -> list[StoredImage]:
        """List all images, in the order of their names."""
        self.refresh()
        with self.lock:
            return list(self._images.values())

    def unlabelled(self) -> list[StoredImage]:
        """List the images without a final label map, in the order of their names."""
        return [image for image in self.images() if not image.is_labelled]

    def find(self, identifier: str) -> StoredImage:
        """Find an image by what a client calls it.

        Args:
            identifier: Its name, with or without an ending; or the UID of its DICOM series.

        Returns:
            The image.

        Raises:
            NotFound: There is none.
        """
        self.refresh()
        with self.lock:
            known = self._aliases.get(identifier)
            if known is None and identifier:
                known = self._aliases.get(file_name_of(identifier))
            if known is None:
                raise NotFound(f"image {identifier[:100]!r}: there is none of this name")
            return self._images[known]

    def find_label(self, identifier: str, tag: str) -> Path:
        """Find a label map.

        Args:
            identifier: What a client calls the image.
            tag: The tag of the label map.

        Returns:
            The file.

        Raises:
            NotFound: There is none.
        """
        image = self.find(identifier)
        file = image.labels.get(tag)
        if file is None:
            raise NotFound(f"image {image.identifier!r}: has no label map with the tag {tag!r}")
        return file

    def status(self) -> dict[str, Any]:
        """Return how many images there are, and how many are labelled, by the protocol's keys."""
        images = self.images()
        tags: dict[str, int] = {}
        for image in images:
            for tag in image.labels:
                tags[tag] = tags.get(tag, 0) + 1
        completed = sum(image.is_labelled for image in images)
        return {"total": len(images), "completed": completed, "label_tags": tags}

    def as_json(self) -> dict[str, Any]:
        """Return all images and label maps by the protocol's keys, without paths."""
        names = label_names(self.description.label_scheme)
        objects = {}
        for image in self.images():
            labels = {}
            for tag, file in image.labels.items():
                info: dict[str, Any] = {"name": file.name, "params": {"label_names": names}}
                labels[tag] = {"ext": ending_of(file), "info": info | _date_of(file)}
            about: dict[str, Any] = {"name": image.download_name} | _date_of(image.file)
            ending = image.download_name.removeprefix(image.identifier)
            objects[image.identifier] = {"image": {"ext": ending, "info": about}, "labels": labels}
        return {"name": self.folder.name, "description": "samnet", "objects": objects}

    def _training(self) -> Iterator[StoredImage]:
        if not self.folder.training_images.is_dir():
            return
        ending = self.description.file_ending
        for name, files in find_image_files(self.folder.training_images, ending).items():
            labels = self._annotated(Case(name, files))
            label = label_file_of(Case(name, files), self.folder.training_labels)
            if label is not None:
                labels[FINAL_TAG] = label
            yield StoredImage(Case(name, files, label), True, labels)

    def _unlabelled(self) -> Iterator[StoredImage]:
        for source in reversed(self._image_folders):  # uploads come last, and replace others
            if not source.is_dir() or not any(source.iterdir()):
                continue
            try:
                cases = find_prediction_cases(source, self.description)
            except UserError as error:
                log.warning("%s", error)
                continue
            for case in cases:
                if case.fault is None:
                    yield StoredImage(case, False, self._annotated(case))

    def _annotated(self, case: Case) -> dict[str, Path]:
        """Return the label maps of a case with other tags than `final`."""
        found = {}
        root = self.folder.raw / ANNOTATION_FOLDER
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            file = label_file_of(case, folder) if folder.is_dir() else None
            if file is not None and folder.name != FINAL_TAG:
                found[folder.name] = file
        return found

    def _dates(self) -> Iterator[int]:
        """Yield the dates of the folders, which change with the files that they hold."""
        root = self.folder.raw / ANNOTATION_FOLDER
        annotations = sorted(root.iterdir()) if root.is_dir() else []
        training = (self.folder.training_images, self.folder.training_labels)
        for folder in (*training, *self._image_folders, root, *annotations):
            yield folder.stat().st_mtime_ns if folder.is_dir() else 0


def label_file(folder: Path, case: Case) -> Path:
    """Return where the label map of a case is written.

    Args:
        folder: The folder of the label maps.
        case: The case.

    Returns:
        The file, whether it exists or not.
    """
    return folder / f"{case.identifier}{label_ending_for(case.image_files[0])}"


def _aliases(images: Iterable[StoredImage]) -> dict[str, str]:
    """Return what clients may call each image -> its name. Names come before other aliases."""
    aliases: dict[str, str] = {}
    for image in images:
        aliases.setdefault(image.file.name, image.identifier)
        aliases.setdefault(image.download_name, image.identifier)
        if (uid := _series_uid(image.file)) is not None:
            aliases.setdefault(uid, image.identifier)
    return aliases | {image.identifier: image.identifier for image in images}


def _series_uid(folder: Path) -> str | None:
    """Return the UID by which OHIF calls a DICOM series; None for other images."""
    if not folder.is_dir():
        return None
    for file in sorted(folder.iterdir()):
        if is_dicom(file):
            uid = getattr(read_header(file), "SeriesInstanceUID", None)
            return None if uid is None else str(uid)
    return None


def _date_of(file: Path) -> dict[str, Any]:
    try:
        return {"ts": int(file.stat().st_mtime)}
    except OSError:  # it was removed a moment ago
        return {"ts": 0}
