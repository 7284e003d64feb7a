"""How often chance alone lets the best of several candidates look as good as one of them does.

The more candidates are tried, the more often one of them looks better by luck. If a candidate
changes nothing but noise, the difference that it makes to a patient could as well have the other
sign. So the signs of the patients are drawn again, the same ones for all candidates, and the
largest effect of any candidate is noted each time: the share of draws in which it reaches that of a
candidate says how likely chance is (sign flipping with the largest statistic: Westfall and Young
1993, Nichols and Holmes 2002, doi 10.1002/hbm.1058). The chance that any of the candidates is taken
without an effect is then at most the level, whatever they have in common. Intervals of the
bootstrap with Bonferroni's correction do not reach that with few patients, whose tails they do not
know.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.evaluation.intervals import sum_by_patient

MOST_CHANCE = 0.05  # of data sets on which no rule has an effect, those where one is taken
_ALL_SIGNS = 12  # patients up to which every combination of signs is looked at
_NUM_DRAWS = 10_000
_DRAWN_TOGETHER = 500  # bounds the memory where there are thousands of images
_SEED = 12345


def chances_of_best(differences: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return how likely chance is to let the best candidate look as good as each of them.

    Args:
        differences: What each of V candidates adds to the score of N cases and K structures,
            `(V, N, K)`; NaN where there is no score.
        patients: The patient of each case, which have one sign together.

    Returns:
        Shares `(V,)`, 0 to 1. With n patients none is below `1 / 2^n`.
    """
    shares = np.stack([_shares_of_patients(table, patients) for table in differences])
    norms = np.linalg.norm(shares, axis=1, keepdims=True)
    # A mean by its standard error, except for what all signs have in common.
    effects = np.divide(shares, norms, out=np.zeros_like(shares), where=norms > 0)
    found = effects.sum(axis=1)
    largest = np.concatenate([(signs @ effects.T).max(axis=1) for signs in _signs(shares.shape[1])])
    return (largest[:, None] >= found - 1e-9).mean(axis=0)


def _shares_of_patients(differences: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return what each patient adds to the mean difference `(N, K)` over cases and structures."""
    is_known = ~np.isnan(differences)
    counts = is_known.sum(axis=0)
    weights = 1 / np.maximum(counts, 1) / max(1, (counts > 0).sum())
    shares = np.where(is_known, differences, 0.0) @ weights
    return sum_by_patient(shares[:, None], patients)[:, 0]


def _signs(num_patients: int) -> list[np.ndarray]:
    """Return signs `(draws, patients)` in parts; the first draw has those that were found."""
    if num_patients <= _ALL_SIGNS:
        combinations = np.arange(2**num_patients)[:, None] >> np.arange(num_patients)
        return [1.0 - 2.0 * (combinations & 1)]
    generator = np.random.default_rng(_SEED)
    parts: list[np.ndarray] = [np.ones((1, num_patients))]
    for _ in range(_NUM_DRAWS // _DRAWN_TOGETHER):
        drawn = generator.integers(2, size=(_DRAWN_TOGETHER, num_patients))
        parts.append(1.0 - 2.0 * drawn)
    return parts
