"""Taking labels over from scans that have some: atlas-based segmentation with voting.

Each labelled scan, an atlas, is aligned affinely with the one without labels. Those that are most
alike then are aligned elastically, and their labels vote for each voxel (Heckemann et al.,
NeuroImage 33(1), 2006; selection by similarity: Aljabar et al., NeuroImage 46(3), 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samnet.registration.alignment import NotAligned, align_affinely, align_elastically
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


@dataclass(frozen=True)
class Choice:
    """The atlases for a scan.

    Attributes:
        indices: Which they are, the most similar one first.
        similarity: How alike they and the scan are near the structures after an affine
            registration, -1 to 1; their mean.
    """

    indices: tuple[int, ...]
    similarity: float


@dataclass(frozen=True)
class Propagated:
    """Labels that a scan has taken over.

    Attributes:
        labels: Labels `(Z, Y, X)`.
        similarity: How alike the scan and the atlases are near the structures, -1 to 1; their mean.
    """

    labels: np.ndarray
    similarity: float


def choose_atlases(atlases: Sequence[Atlas], scan: Scan) -> Choice:
    """Choose those that are most alike a scan after an affine registration.

    Args:
        atlases: The labelled scans; the first `MAX_CANDIDATES` are tried.
        scan: The scan without labels.

    Returns:
        At most `MAX_VOTES`.

    Raises:
        NotAligned: No atlas could be aligned with the scan; the message tells of the last one.
    """
    similarities: dict[int, float] = {}
    failure = NotAligned("there is no labelled scan")
    for index, atlas in enumerate(atlases[:MAX_CANDIDATES]):
        try:
            aligned = align_affinely(scan, atlas.scan)
        except NotAligned as error:
            failure = error
        else:
            similarities[index] = aligned.similarity_near(atlas.labels)
    if not similarities:
        raise failure
    best = sorted(similarities, key=similarities.__getitem__, reverse=True)[:MAX_VOTES]
    return Choice(tuple(best), float(np.mean([similarities[index] for index in best])))


def propagate_labels(atlases: Sequence[Atlas], scan: Scan) -> Propagated:
    """Take the labels of a scan over from others.

    Args:
        atlases: The labelled scans, the most similar one first.
        scan: The scan without labels.

    Returns:
        What most atlases say of each voxel, and of two that are even, what the first one says.

    Raises:
        NotAligned: No atlas could be aligned with the scan; the message tells of the last one.
    """
    opinions, similarities = [], []
    failure = NotAligned("there is no labelled scan")
    for atlas in atlases:
        try:
            aligned = align_elastically(align_affinely(scan, atlas.scan))
        except NotAligned as error:
            failure = error
            continue
        opinions.append(aligned.warp(atlas.labels))
        similarities.append(aligned.similarity_near(atlas.labels))
    if not opinions:
        raise failure
    return Propagated(_vote(opinions), float(np.mean(similarities)))


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
