"""The best configuration or ensemble of a data set, by its cross-validation."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import write_json
from samnet.core.records import to_json
from samnet.core.tables import align_columns
from samnet.dataset.splits import patient_of
from samnet.evaluation.intervals import PairedDifference
from samnet.models.model_folder import ModelFolder
from samnet.models.weights_note import note_weights
from samnet.planning.planned_dataset import PlannedDataset
from samnet.postprocessing.rules import NO_POSTPROCESSING
from samnet.selection.candidates import Candidate
from samnet.selection.comparison import compare_dice
from samnet.selection.cost import prediction_cost
from samnet.selection.cross_validation import (
    check_same_rules,
    choose_folds,
    read_cross_validation,
    validated_configurations,
    validated_folds,
)
from samnet.selection.ensembles import cross_validate_ensemble, model_folder
from samnet.selection.postprocessing import PostprocessingChoice, choose_postprocessing

log = logging.getLogger(__name__)
_MOST_MEMBERS = 4  # of all configurations, the best ones that are paired


@dataclass(frozen=True)
class Choice:
    """The best configuration or ensemble of a data set.

    Attributes:
        dataset_name: `DatasetXXX_Name`.
        folds: The folds whose held-out cases count.
        candidates: All that were compared, by falling mean Dice.
        highest: The one with the highest mean Dice.
        best: The one that is taken: the cheapest one that is not worse beyond noise.
        differences: How much lower the Dice of each candidate is than the highest: name ->
            difference with its 95 % interval.
        postprocessing: What was found for each configuration, and for the best one.
    """

    dataset_name: str
    folds: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    highest: Candidate
    best: Candidate
    differences: dict[str, PairedDifference]
    postprocessing: dict[str, PostprocessingChoice]

    @property
    def reason(self) -> str:
        """Why the best one is taken, in a sentence."""
        if len(self.candidates) == 1:
            return "no other one was compared"
        if self.best is self.highest:
            return "it has the highest mean foreground Dice"
        difference = self.differences[self.best.name]
        return (
            f"its Dice is {difference.mean:.4f} below that of {self.highest.name} (95 % interval "
            f"{difference.low:+.4f} to {difference.high:+.4f}), which is within noise, and it "
            f"computes {self.best.cost / self.highest.cost:.0%} of it"
        )

    def __str__(self) -> str:
        parts = [_table(self)]
        parts.append(f"best: {self.best.name}, as {self.reason}")
        parts.append(str(self.postprocessing[self.best.name]))
        command = f"samnet_predict -d {self.dataset_name} -c best -i INPUT -o OUTPUT"
        parts.append(f"predict with it: {command}")
        return "\n\n".join(parts)


def find_best_configuration(
    identifier: str,
    configurations: Sequence[str] = (),
    folds: Sequence[str] = (),
    *,
    with_ensembles: bool = True,
    processes: int = 0,
    device: str | None = None,
) -> Choice:
    """Compare the cross-validations of configurations and of ensembles of two, and choose one.

    Every held-out case counts once, whatever its fold. Of the candidates whose mean foreground Dice
    is not lower than the highest one beyond noise (95 % interval of the difference, paired
    bootstrap over cases), the one is taken that computes least. Postprocessing is then chosen for
    it.

    Writes `cross_validation.json` and `.csv` into the folder of each configuration, and
    `best_configuration.json` into that of the data set.

    Args:
        identifier: Id or name of the data set.
        configurations: The configurations to compare; empty for all whose folds are all validated.
        folds: The folds to compare them on; empty for all.
        with_ensembles: Whether to predict the held-out cases with ensembles of two, too.
        processes: Number of worker processes for scores; 0 for none.
        device: What ensembles predict on; None for the best device here.

    Returns:
        The best one, and the scores of all.

    Raises:
        UserError: A fold is not validated, or there is nothing to compare.
        SamnetError: No configuration finds anything.
    """
    dataset = PlannedDataset.find(identifier)
    chosen_folds = choose_folds(dataset, folds)
    names = list(configurations) or validated_configurations(dataset, chosen_folds)
    if not names:
        found_folds = validated_folds(dataset, dataset.fold_names)
        texts = [f"{name} {' '.join(of_name)}" for name, of_name in found_folds.items()]
        validated = "; ".join(texts) or "none"
        raise UserError(
            f"no configuration of {dataset.name} is validated on "
            f"{'these' if folds else f'all {len(chosen_folds)}'} folds; samnet_train ... cv trains "
            f"all folds, and -f compares on some of them. Validated: {validated}"
        )
    if not configurations:
        _name_left_out(dataset, names, chosen_folds)
    candidates = [_single(dataset, name, chosen_folds) for name in dict.fromkeys(names)]
    _check_same_cases(candidates)
    found = _ranked([candidate for candidate in candidates if candidate.finds_anything])
    if not found:
        raise SamnetError(
            f"no configuration of {dataset.name} finds anything in its held-out cases: "
            f"{', '.join(names)}. None is chosen; train longer, and look at samnet_doctor -d "
            f"{dataset.folder.number}"
        )
    if with_ensembles:
        if len(found) > _MOST_MEMBERS:
            log.info(
                "ensembles of two of the %d best configurations are compared, not of all %d",
                _MOST_MEMBERS,
                len(found),
            )
        for pair in combinations(sorted(one.members[0] for one in found[:_MOST_MEMBERS]), 2):
            summary = cross_validate_ensemble(
                dataset, pair, found[0].case_names(), chosen_folds, processes, device
            )
            cost = sum(one.cost for one in found if one.members[0] in pair)
            candidates.append(Candidate(pair, summary, cost))
    return _choose(dataset, chosen_folds, _ranked(candidates), processes)


def _name_left_out(dataset: PlannedDataset, names: Sequence[str], folds: Sequence[str]) -> None:
    """Say which configurations are not compared, as they are validated on some of the folds."""
    for name, validated in validated_folds(dataset, folds).items():
        if name not in names:
            missing = ", ".join(fold for fold in folds if fold not in validated)
            log.warning("%s: not compared, as it is not validated on fold %s", name, missing)


def _single(dataset: PlannedDataset, name: str, folds: Sequence[str]) -> Candidate:
    summary = read_cross_validation(dataset, name, folds)
    configuration = ModelFolder.of(dataset.folder, name).run(folds[0]).configuration
    return Candidate((name,), summary, prediction_cost(configuration, dataset.fingerprint))


def _check_same_cases(candidates: Sequence[Candidate]) -> None:
    """Refuse to compare scores of different cases, of different rules or of different labels."""
    first = candidates[0]
    for other in candidates[1:]:
        if other.case_names() != first.case_names():
            differing = set(other.case_names()) ^ set(first.case_names())
            raise UserError(
                f"{other.name} and {first.name} are scored on different cases, such as "
                f"{min(differing)}: they cannot be compared; delete the validation folder of the "
                "one that lacks it, and train again by the same command"
            )
        check_same_rules(other.summary, first.summary, other.name, first.name)


def _ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Sort by falling mean Dice; of equals, the cheaper one first."""

    def key(candidate: Candidate) -> tuple[float, float]:
        dice = candidate.dice
        return (math.inf if math.isnan(dice) else -dice, candidate.cost)

    return sorted(candidates, key=key)


def _choose(
    dataset: PlannedDataset, folds: Sequence[str], ranked: Sequence[Candidate], processes: int
) -> Choice:
    highest = ranked[0]
    key = dataset.plan.patient_key
    patients = {case: patient_of(case, key) for case in highest.case_names()}
    differences = {}
    for candidate in ranked[1:]:
        tables = (highest.dice_table(), candidate.dice_table())
        differences[candidate.name] = compare_dice(*tables, list(patients.values()))
    # The difference of the highest to itself is 0: it is among those that are not worse.
    equals = [highest, *(one for one in ranked[1:] if differences[one.name].low <= 0)]
    best = min(equals, key=lambda candidate: candidate.cost)
    choice = Choice(
        dataset.name,
        tuple(folds),
        tuple(ranked),
        highest,
        best,
        differences,
        _postprocess(dataset, folds, ranked, best, patients, processes),
    )
    weights = note_weights(_models(dataset, best), folds)
    write_json(dataset.folder.choice_file, _record(choice) | {"weights": weights})
    return choice


def _postprocess(
    dataset: PlannedDataset,
    folds: Sequence[str],
    candidates: Sequence[Candidate],
    best: Candidate,
    patients: dict[str, str],
    processes: int,
) -> dict[str, PostprocessingChoice]:
    """Choose postprocessing for every configuration and for the best ensemble; keep it with them.

    Rules of other ensembles, from an earlier comparison, are deleted.
    """
    chosen = {}
    slicing_axis = dataset.plan.decisions["slicing_axis"].value
    for candidate in candidates:
        folder = model_folder(dataset, candidate.members)
        if len(candidate.members) > 1 and candidate is not best:
            NO_POSTPROCESSING.save(folder)
            continue
        files = {}
        for case in candidate.summary["metric_per_case"]:
            # The references may have been moved since they were scored, as with all raw data.
            reference = dataset.folder.training_labels / Path(case["reference_file"]).name
            files[case["case"]] = (Path(case["prediction_file"]), reference)
        scheme = dataset.plan.label_scheme
        choice = choose_postprocessing(files, scheme, processes, patients, slicing_axis)
        weights = note_weights(_models(dataset, candidate), folds)
        replace(choice.postprocessing, weights=weights).save(folder)
        chosen[candidate.name] = choice
    return chosen


def _models(dataset: PlannedDataset, candidate: Candidate) -> list[ModelFolder]:
    return [ModelFolder.of(dataset.folder, name) for name in candidate.members]


def _record(choice: Choice) -> dict[str, Any]:
    """Return the content of `best_configuration.json`."""
    return {
        "dataset": choice.dataset_name,
        "best": choice.best.name,
        "members": list(choice.best.members),
        "reason": choice.reason,
        "folds": list(choice.folds),
        "score": "mean foreground Dice of the held-out cases",
        "Dice": {candidate.name: candidate.dice for candidate in choice.candidates},
        "cost": {candidate.name: candidate.cost for candidate in choice.candidates},
        "below_the_highest": to_json(choice.differences),
        "postprocessing": {
            name: entry.postprocessing.describe() for name, entry in choice.postprocessing.items()
        },
    }


def _table(choice: Choice) -> str:
    """Return a row for each candidate."""
    rows = [("configuration", "Dice", "below the highest (95 % interval)", "computes")]
    for candidate in choice.candidates:
        below = "-"
        if candidate is not choice.highest:
            interval = choice.differences[candidate.name]
            below = f"{interval.mean:.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
        share = candidate.cost / max(one.cost for one in choice.candidates)
        mark = "  <- best" if candidate is choice.best else ""
        rows.append((candidate.name, f"{candidate.dice:.4f}", below, f"{share:.0%}{mark}"))
    num_cases = len(choice.best.case_names())
    title = f"mean foreground Dice of {num_cases} held-out cases of {choice.dataset_name}"
    return f"{title}\n\n{align_columns(rows)}"
