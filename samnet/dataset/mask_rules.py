"""The user's rules for a conversion: how masks are found and read, and what is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.mask_values import MaskValues, all_values, nearest_values, stray_values
from samnet.dataset.splits import find_patient_key, patient_of

_SEED = 12345


@dataclass(frozen=True)
class MaskRules:
    """How masks are found and read, and how many cases are held out.

    Attributes:
        suffix: What the name of a mask has after the name of its image; None for equal names.
        recursive: Whether the folders in the folders are searched too.
        nearest: Whether a stray value is replaced by the nearest value that is none.
        binary: Whether all values other than 0 mean one class.
        test_share: Share of the cases to hold out, 0 to below 1.
        channel_suffixes: What tells the channel of an image file, such as `_t1`, in the order of
            the channels; empty for images of one file.
        class_suffixes: What tells the class of a mask, such as `_liver`, in the order of the
            labels; empty where one mask holds all classes.
        overlap: The class of a voxel that several masks of a case hold: the `first` or the `last`
            one of `class_suffixes`; None to refuse it.
        allow_missing_masks: Whether a class without a mask in a case is taken as empty.
    """

    suffix: str | None = None
    recursive: bool = False
    nearest: bool = False
    binary: bool = False
    test_share: float = 0.0
    channel_suffixes: tuple[str, ...] = ()
    class_suffixes: tuple[str, ...] = ()
    overlap: Literal["first", "last"] | None = None
    allow_missing_masks: bool = False

    def values_of(self, masks: list[MaskValues]) -> dict[int, int]:
        """Return, for each value other than 0, the value that it is taken as.

        Args:
            masks: The values of all masks.
        """
        found = all_values(masks)
        values = {value: value for value in found}
        if self.nearest:
            values |= nearest_values(found, stray_values(masks))
        if self.binary:
            largest = max(found, default=0)
            values = {value: largest if kept else 0 for value, kept in values.items()}
        return values

    def held_out(self, names: list[str], patient_key: str | None = None) -> frozenset[str]:
        """Choose the cases of a test: whole patients, the same ones each time.

        Args:
            names: Names of all cases.
            patient_key: Regular expression that finds the patient in a name; None to derive it.

        Returns:
            Names of about the share of the cases, at least one patient.

        Raises:
            UserError: A test would leave nothing to train on.
        """
        if not self.test_share:
            return frozenset()
        patient_key = patient_key or find_patient_key(names)
        patients: dict[str, list[str]] = {}
        for name in sorted(names):
            patients.setdefault(patient_of(name, patient_key), []).append(name)
        if len(patients) < 2:
            raise UserError(
                f"--test-share {self.test_share:g}: there is one patient only "
                f"({next(iter(patients), 'none')}), so nothing would be left to train on"
            )
        order = sorted(patients)
        np.random.default_rng(_SEED).shuffle(order)
        num_target = self.test_share * len(names)
        chosen: list[str] = []
        for patient in order[:-1]:
            # The next patient is taken only where that comes nearer to the share.
            if chosen and len(chosen) + len(patients[patient]) / 2 > num_target:
                break
            chosen += patients[patient]
        return frozenset(chosen)
