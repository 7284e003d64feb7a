"""What the images and masks of a conversion hold: values, channels, and what does not fit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.progress import ProgressBar
from samnet.dataset.class_masks import merge_masks
from samnet.dataset.formats.image import Image
from samnet.dataset.grey import is_grey
from samnet.dataset.images import ending_of, read_image, variants_of
from samnet.dataset.mask_rules import MaskRules
from samnet.dataset.mask_values import MaskValues
from samnet.dataset.masks import mask_codes
from samnet.dataset.pairing import CaseFiles

log = logging.getLogger(__name__)


@dataclass
class FolderContents:
    """What all files hold together.

    Attributes:
        masks: The values of each mask.
        shifted: The masks of the shape of their image whose header states another geometry.
        faults: Texts on files that cannot be read or do not fit.
        num_channels: Number of channels of an image.
    """

    masks: list[MaskValues] = field(default_factory=list)
    shifted: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    num_channels: int = 1


def read_codes(case: CaseFiles, rules: MaskRules) -> tuple[Image, np.ndarray]:
    """Read what the voxels of a case are labelled as.

    Args:
        case: The files of the case.
        rules: How masks are read.

    Returns:
        The mask as an image, and `(Z, Y, X)` its values or colours as codes; with one mask for each
        class, the numbers of the classes.

    Raises:
        UserError: A mask cannot be read, or masks of several classes do not fit together.
    """
    if rules.class_suffixes:
        return merge_masks(case.masks, rules)
    return mask_codes(case.mask_files[0])


def read_contents(images: Path, cases: dict[str, CaseFiles], rules: MaskRules) -> FolderContents:
    """Read all images and masks.

    Args:
        images: Folder of the images, for messages.
        cases: Case name -> its files.
        rules: How masks are read.

    Returns:
        What they hold, and their faults.
    """
    contents = FolderContents()
    channels: Counter[int] = Counter()
    num_grey = 0
    num_files = max((len(case.images) for case in cases.values()), default=1)
    for case in ProgressBar(cases.values(), desc="reading", unit="case"):
        try:
            image = read_image(case.images, num_files if num_files > 1 else None)
            mask, codes = read_codes(case, rules)
        except UserError as error:
            contents.faults.append(str(error))
            continue
        channels[image.array.shape[0]] += 1
        num_grey += num_files == 1 and is_grey(image.array)
        file = case.mask_files[0]
        contents.masks.append(MaskValues.of(file, codes))
        difference = mask.grid.difference(image.grid)
        if difference is not None and difference.kind == "shape":
            contents.faults.append(f"{file}: {difference.describe(str(case.images[0]))}")
        elif difference is not None:
            contents.shifted.append(file)
    if set(channels) <= {1, 3} and num_grey == channels[3] > 0:
        # The files are copied unchanged, and read as one channel each.
        log.info("%s: %d images are grey, stored in colour; taken as grey", images, num_grey)
        channels = Counter({1: channels.total()})
    if len(channels) > 1:
        counts = ", ".join(
            f"{count} images with {number}" for number, count in sorted(channels.items())
        )
        contents.faults.append(
            f"{images}: the images differ in their channels ({counts}); convert them apart"
        )
    contents.num_channels = max(channels, default=num_files)
    return contents


def ending_faults(folder: Path, files: Sequence[Path]) -> list[str]:
    """Name endings that cannot be mixed in one data set.

    Args:
        folder: Folder of the files, for the message.
        files: All images, or all masks.
    """
    endings = Counter(ending_of(file) or "" for file in files)
    if not endings or set(endings) <= set(variants_of(next(iter(endings)))):
        return []
    counts = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    return [
        f"{folder}: files of several kinds ({counts}); convert each kind apart, or save all as one"
    ]
