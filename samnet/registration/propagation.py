"""Taking labels over from scans that have some: atlas-based segmentation with voting.

Each labelled scan, an atlas, is aligned with the one without labels. Those that are most alike
after an affine registration are aligned elastically, and their labels vote for each voxel
(Heckemann et al., NeuroImage 33(1), 2006; selection by similarity: Aljabar et al., NeuroImage
46(3), 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samnet.registration.alignment import (
    Alignment,
    NotAligned,
    align_affinely,
    align_elastically,
)
from samnet.registration.scan import Scan

MAX_CANDIDATES = 10  # atlases that are aligned affinely
MAX_VOTES = 3  # of these, which vote


@dataclass(frozen=True)
class Atlas:
    """A labelled scan.

    Attributes:
        scan: The image.
        labels: Its labels `(Z, Y, X)`.
    """

    scan: Scan
    labels: np.ndarray


def propagate_labels(atlases: Sequence[Atlas], scan: Scan) -> np.ndarray:
    """Take the labels of a scan over from others.

    Args:
        atlases: The labelled scans; the first `MAX_CANDIDATES` are tried.
        scan: The scan without labels.

    Returns:
        Labels `(Z, Y, X)`: what most of the `MAX_VOTES` most similar atlases say of each voxel, and
        of two that are even, what the more similar one says.

    Raises:
        NotAligned: No atlas could be aligned with the scan; the message tells of the last one.
    """
    affine: list[tuple[Alignment, np.ndarray]] = []
    failure = NotAligned("there is no labelled scan")
    for atlas in atlases[:MAX_CANDIDATES]:
        try:
            affine.append((align_affinely(scan, atlas.scan), atlas.labels))
        except NotAligned as error:
            failure = error
    affine.sort(key=lambda pair: pair[0].similarity, reverse=True)
    opinions = []
    for alignment, labels in affine[:MAX_VOTES]:
        try:
            opinions.append(align_elastically(alignment).warp(labels))
        except NotAligned as error:
            failure = error
    if not opinions:
        raise failure
    return _vote(opinions)


def _vote(opinions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the label that most label maps have; the first one decides between even ones."""
    if len(opinions) == 1:
        return opinions[0]
    decided = opinions[0].copy()
    most = np.zeros(decided.shape, np.uint8)
    for candidate in opinions:  # in order, so that an earlier one is replaced by more votes only
        votes = sum((other == candidate).astype(np.uint8) for other in opinions)
        is_more = votes > most
        decided[is_more], most[is_more] = candidate[is_more], votes[is_more]
    return decided
