"""Watches the validations of a run for classes of which nothing is found any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from samnet.dataset.label_scheme import LabelScheme
from samnet.preprocessing.storage import StoredCase
from samnet.training.task import TrainingTask

log = logging.getLogger(__name__)
IN_A_ROW = 3  # validations without a single voxel
FAIR_SHARE = 0.2  # of the training, in which a class may be learnt for the first time
COLLAPSED = "collapsed"  # in `metrics.jsonl`: the names of such classes; missing where none is
_MORE_FOREGROUND = 0.9


class CollapseWatch:
    """Tells which classes have collapsed: the reference shows them, and their Dice stays 0.

    It judges by the rows of the epochs, which are kept on disk. So a resumed run says the same.

    Attributes:
        shown: The names of the classes or regions that the validation cases show.
    """

    def __init__(self, task: TrainingTask, validation_cases: Sequence[StoredCase]) -> None:
        """Find out what the validation cases show.

        Args:
            task: What the run is to do.
            validation_cases: The cases of each validation.
        """
        self._configuration = task.configuration
        self.shown = _shown_classes(validation_cases, task.label_scheme)

    def judge(
        self, earlier: Sequence[dict[str, Any]], row: dict[str, Any], share_done: float
    ) -> dict[str, list[str]]:
        """Judge an epoch. The log warns of each class once.

        A class has its chance in the first part of the training. One that was found before, and is
        not any more, is judged at any time.

        Args:
            earlier: The rows of the epochs before.
            row: That of this epoch, with the Dice of each class, see `epoch_row`.
            share_done: The share of the training that is done.

        Returns:
            What is added to the row: `collapsed`, where any class has.
        """
        validated = [each for each in (*earlier, row) if each["mean_dice"] is not None]
        warned = {name for each in earlier for name in each.get(COLLAPSED, [])}
        collapsed = []
        for name in self.shown:
            was_found = any(each["dice"].get(name) for each in validated)
            if _is_zero(validated[-IN_A_ROW:], name) and (was_found or share_done >= FAIR_SHARE):
                collapsed.append(name)
                if name not in warned:
                    log.warning("%s", self._describe(name, row["step"], was_found))
        return {COLLAPSED: collapsed} if collapsed else {}

    def _describe(self, name: str, step: int, was_found: bool) -> str:
        """Say what has happened, and what may help."""
        configuration = self._configuration
        what = (
            f"{name!r} has collapsed: at step {step}, not a voxel of it was found in the "
            f"validation cases {IN_A_ROW} times in a row"
        )
        lower = f"--lr {configuration.learning_rate / 3:.1g} --restart trains at a lower rate"
        if was_found:
            return f"{what}, though it was before. {lower}"
        more = "give it more steps"
        if configuration.foreground_share < _MORE_FOREGROUND:
            more += f", or show it more often with --set foreground_share={_MORE_FOREGROUND}"
        return f"{what}. {lower}; or, where its labels are right, {more}"


def _is_zero(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return len(rows) == IN_A_ROW and all(row["dice"].get(name) == 0 for row in rows)


def _shown_classes(cases: Sequence[StoredCase], label_scheme: LabelScheme) -> list[str]:
    """Return the names of the classes or regions of which any case shows a voxel."""
    values = {
        int(value)
        for case in cases
        for slices in case.record.class_slices.values()
        for value in slices
    }
    sets = zip(label_scheme.class_names, label_scheme.label_sets, strict=True)
    return [name for name, label_set in sets if values & set(label_set)]
