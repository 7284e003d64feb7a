"""Watches the validations of a run for classes of which nothing is found, and brings them back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from samnet.dataset.label_scheme import LabelScheme
from samnet.preprocessing.storage import StoredCase
from samnet.training.task import TrainingTask

log = logging.getLogger(__name__)
IN_A_ROW = 3  # validations without a single voxel; and with one, until a class is back
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
        scheme = task.label_scheme
        self.shown = _shown_classes(validation_cases, scheme)
        first = scheme.num_outputs - scheme.num_classes  # 1 where the background has an output
        self._outputs = {name: first + index for index, name in enumerate(scheme.class_names)}

    def judge(
        self, earlier: Sequence[dict[str, Any]], row: dict[str, Any], share_done: float
    ) -> dict[str, list[str]]:
        """Judge an epoch. The log warns of each class once.

        A class has its chance in the first part of the training. One that was found before, and is
        not any more, is judged at any time. It has collapsed until it is found in as many
        validations in a row: what is learnt in a few steps may be lost in the next ones. An epoch
        without a validation changes nothing.

        Args:
            earlier: The rows of the epochs before.
            row: That of this epoch, with the Dice of each class, see `epoch_row`.
            share_done: The share of the training that is done.

        Returns:
            What is added to the row: `collapsed`, where any class has.
        """
        before = earlier[-1].get(COLLAPSED, []) if earlier else []
        if row["mean_dice"] is None:
            return {COLLAPSED: before} if before else {}
        validated = [each for each in (*earlier, row) if each["mean_dice"] is not None]
        warned = {name for each in earlier for name in each.get(COLLAPSED, [])}
        collapsed = []
        for name in self.shown:
            latest = [each["dice"].get(name) for each in validated[-IN_A_ROW:]]
            if name in before:
                if not _are_all(latest, lambda dice: dice > 0):
                    collapsed.append(name)
                continue
            was_found = any(each["dice"].get(name) for each in validated)
            if _are_all(latest, lambda dice: dice == 0) and (was_found or share_done >= FAIR_SHARE):
                collapsed.append(name)
                if name not in warned:
                    log.warning("%s", self._describe(name, row["step"], was_found))
        return {COLLAPSED: collapsed} if collapsed else {}

    def weights(self, rows: Sequence[dict[str, Any]]) -> dict[int, float]:
        """Return what the pixels of the classes that have collapsed weigh by themselves.

        Args:
            rows: The rows of all epochs so far, as `judge` has completed them.

        Returns:
            Output of the network -> the plan's `collapse_weight`, see `segmentation_loss`.
        """
        weight = self._configuration.collapse_weight
        names = rows[-1].get(COLLAPSED, []) if rows and weight else []
        return {self._outputs[name]: weight for name in names}

    def _describe(self, name: str, step: int, was_found: bool) -> str:
        """Say what has happened, and what may help."""
        configuration = self._configuration
        what = (
            f"{name!r} has collapsed: at step {step}, not a voxel of it was found in the "
            f"validation cases {IN_A_ROW} times in a row"
        )
        if was_found:
            what += ", though it was before"
        advice = f"--lr {configuration.learning_rate / 3:.1g} --restart trains at a lower rate"
        if not was_found:
            more = "give it more steps"
            if configuration.foreground_share < _MORE_FOREGROUND:
                more += f", or show it more often with --set foreground_share={_MORE_FOREGROUND}"
            advice = f"where its labels are right, {more}; {advice}"
        if not configuration.collapse_weight:
            return f"{what}. {advice[0].upper()}{advice[1:]}"
        return (
            f"{what}. Until it is found, the loss of its own pixels is added (collapse_weight "
            f"{configuration.collapse_weight:g}). If that is not enough, {advice}"
        )


def _are_all(latest: Sequence[float | None], fulfils: Callable[[float], bool]) -> bool:
    """Tell whether the latest Dice of a class are enough, all known, and fulfil a condition."""
    known = [dice for dice in latest if dice is not None]
    return len(known) == IN_A_ROW and all(fulfils(dice) for dice in known)


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
