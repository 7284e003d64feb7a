"""One case: its image files and its label map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samnet.dataset.images import companions_of, label_ending_for, label_endings


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        identifier: File name without channel number and ending.
        image_files: Image files in channel order. One file may hold several channels, as colour
            images do. A folder is a DICOM series.
        label_file: The reference label map, or None at prediction.
        fault: Why the names of the files do not fit the model, or None where they do.
    """

    identifier: str
    image_files: tuple[Path, ...]
    label_file: Path | None = None
    fault: str | None = None

    def raw_files(self) -> list[Path]:
        """List the existing files that the case is read from.

        Returns:
            Image files and label map, each followed by the files that its content also comes from.

        Raises:
            UserError: A header does not say where its voxels are.
        """
        files = []
        for file in (*self.image_files, self.label_file):
            if file is None or not file.is_file():
                continue
            files.append(file)
            files += [companion for companion in companions_of(file) if companion.is_file()]
        return files


def label_file_of(case: Case, folder: Path) -> Path | None:
    """Find the label map of a case in a folder, whatever its ending.

    Args:
        case: The case.
        folder: The folder of label maps.

    Returns:
        The label map, or None where there is none. The ending that samnet itself writes for the
        image is preferred.
    """
    for ending in (label_ending_for(case.image_files[0]), *label_endings()):
        file = folder / f"{case.identifier}{ending}"
        if file.is_file():
            return file
    return None
