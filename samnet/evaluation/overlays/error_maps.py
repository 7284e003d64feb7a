"""Where a prediction is right, and where and how it is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.dataset.label_scheme import LabelScheme, mask_of

NOTHING, TRUE, MISSED, FALSE, CONFUSED = range(5)


def class_error_map(
    prediction: np.ndarray,
    reference: np.ndarray,
    values: Sequence[int],
    ignore_label: int | None = None,
) -> np.ndarray:
    """Compare two label maps in one class or region.

    Args:
        prediction: Whole numbers of any shape.
        reference: Whole numbers of the same shape.
        values: The values of the class or region.
        ignore_label: The value of reference voxels that do not count, or None.

    Returns:
        An array of the same shape, uint8: `TRUE` in both, `MISSED` in the reference only, `FALSE`
        in the prediction only, `NOTHING` in neither or ignored.
    """
    in_prediction, in_reference = mask_of(prediction, values), mask_of(reference, values)
    errors = np.zeros(reference.shape, np.uint8)
    errors[in_prediction & in_reference] = TRUE
    errors[in_reference & ~in_prediction] = MISSED
    errors[in_prediction & ~in_reference] = FALSE
    if ignore_label is not None:
        errors[reference == ignore_label] = NOTHING
    return errors


def error_map(
    prediction: np.ndarray, reference: np.ndarray, label_scheme: LabelScheme
) -> np.ndarray:
    """Compare two label maps in all classes or regions at once.

    Args:
        prediction: Whole numbers of any shape.
        reference: Whole numbers of the same shape.
        label_scheme: The classes or regions.

    Returns:
        An array of the same shape, uint8: `TRUE` where both name the same class, or regions;
        `MISSED` where the prediction is background, `FALSE` where the reference is background,
        `CONFUSED` where both name different classes; `NOTHING` elsewhere, and where the reference
        is ignored.
    """
    highest = max(int(prediction.max()), int(reference.max()), label_scheme.highest_value)
    members = _members(label_scheme, highest)
    in_prediction, in_reference = members[prediction], members[reference]
    errors = np.zeros(reference.shape, np.uint8)
    errors[(in_prediction != 0) & (in_reference != 0)] = CONFUSED
    errors[(in_prediction == 0) & (in_reference != 0)] = MISSED
    errors[(in_prediction != 0) & (in_reference == 0)] = FALSE
    errors[(in_prediction == in_reference) & (in_reference != 0)] = TRUE
    if label_scheme.ignore_label is not None:
        errors[reference == label_scheme.ignore_label] = NOTHING
    return errors


def _members(label_scheme: LabelScheme, highest: int) -> np.ndarray:
    """Return a number for each value: equal for values of the same classes or regions, 0 for none.

    Two labels that lie in the same regions are the same to the scores, so they are no error.
    """
    rows = np.zeros((highest + 1, label_scheme.num_classes), bool)
    for column, values in enumerate(label_scheme.label_sets):
        rows[list(values), column] = True
    # The row of background is first: it is all false, which sorts before every other row.
    _, numbers = np.unique(np.vstack([np.zeros_like(rows[:1]), rows]), axis=0, return_inverse=True)
    return numbers.ravel()[1:].astype(np.uint16)


def is_wrong(errors: np.ndarray) -> np.ndarray:
    """Return where an error map holds an error.

    Args:
        errors: An error map of any shape.

    Returns:
        Booleans of the same shape.
    """
    return errors >= MISSED
