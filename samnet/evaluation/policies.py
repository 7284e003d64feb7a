"""The named rules by which scores are defined, above all where a label map lacks a structure.

This module imports nothing that is slow to load, because the help of the command line states the
rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from samnet.core.errors import UserError

DEFAULT_NSD_TOLERANCE_MM = 1.0
VOLUME_METRICS = ("volume_pred", "volume_ref", "volume_error", "volume_error_relative")
EMPTY_SLICES = "volume_empty_slices"
VOLUMES = (*VOLUME_METRICS[:3], EMPTY_SLICES)  # the scores in the unit of the volumes
LESION_METRICS = (
    "lesions_ref",
    "lesions_pred",
    "lesions_found",
    "lesions_false",
    "lesion_sensitivity",
    "lesion_F1",
)


@dataclass(frozen=True)
class Policy:
    """One rule.

    Attributes:
        statement: Description of the rule for help pages.
        metrics: Names of the scores that it defines.
        distance_unit: Unit of its distances; None for the unit of the image.
    """

    statement: str
    metrics: tuple[str, ...]
    distance_unit: str | None = None


STANDARD = "standard"
SYNAPSE_LEGACY = "synapse_legacy"

POLICIES = {
    STANDARD: Policy(
        statement=(
            "distances in mm. A class in neither label map of a case is left out of the means "
            "(NaN). A class in only one of them counts Dice, IoU, precision and NSD 0, and HD95 "
            "and ASSD the diagonal of the image, so that missing a structure, or inventing one, "
            "never improves a mean"
        ),
        metrics=(
            *("Dice", "IoU", "HD95", "ASSD", "NSD", "precision", "recall"),
            *VOLUME_METRICS,
            EMPTY_SLICES,
            *LESION_METRICS,
        ),
    ),
    SYNAPSE_LEGACY: Policy(
        statement=(
            "the rule behind the numbers published for Synapse by TransUNet, SAMed and others, for "
            "comparison with them only. HD95 in voxels. A class predicted but not in the reference "
            "counts Dice 1 and HD95 0; a missed class, and one in neither label map, counts Dice 0 "
            "and HD95 0"
        ),
        metrics=("Dice", "HD95"),
        distance_unit="voxels",
    ),
}


def find_policy(name: str) -> Policy:
    """Find a policy by its name.

    Args:
        name: Name of the policy.

    Returns:
        The policy.

    Raises:
        UserError: No policy has this name. The message lists all names.
    """
    if name not in POLICIES:
        raise UserError(f"no metric policy {name!r}; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]
