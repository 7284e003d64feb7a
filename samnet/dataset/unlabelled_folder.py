"""A folder of images without labels that lies elsewhere: the link `imagesUn` of a data set."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.dataset_folder import DatasetFolder

log = logging.getLogger(__name__)


def link_unlabelled_images(dataset: DatasetFolder, images: Path) -> None:
    """Make `imagesUn` of a data set a link to a folder; nothing where it is one already.

    Args:
        dataset: The paths of the data set.
        images: The folder of images without labels, named as those of `imagesTr`.

    Raises:
        UserError: There is no such folder, its images have labels, the data set has other images
            without labels, or a link cannot be written.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; --unlabelled needs one of images")
    link, target = dataset.unlabelled_images, images.resolve()
    if target == dataset.training_images.resolve():
        raise UserError(f"{images} has the labelled images; --unlabelled needs a folder of others")
    if target == link.resolve():
        return
    if os.path.lexists(link):
        has = f"a link to {link.resolve()}" if link.is_symlink() else "a folder"
        raise UserError(
            f"{link} is {has} already, so {images} cannot take its place; remove the one, or put "
            "the images of both into one folder"
        )
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise UserError(
            f"{link} cannot be made a link to {target} ({error.strerror}); copy the images into "
            "a folder of this name"
        ) from error
    if target == dataset.test_images.resolve():
        log.warning(
            "%s: these are the test images; say so where their scores are reported, as training "
            "learns from them",
            images,
        )
    log.info("%s is a link to %s now", link, target)
