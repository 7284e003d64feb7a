"""The unlabelled cases of a folder and the labelled ones of a data set, and what is known of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.annotation.candidate import Candidate, read_candidates
from samnet.annotation.ranking import RankedCase, find_strategy, rank
from samnet.annotation.strategies import LabelledCase
from samnet.core.errors import SamnetError, UserError
from samnet.dataset.case_list import read_case_list
from samnet.dataset.cases import Case, RawDataset, find_prediction_input
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DatasetDescription
from samnet.inference.ensemble import EnsemblePredictor
from samnet.inference.predictor import Predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """The cases of which some are to be labelled next.

    Attributes:
        description: The content of the `dataset.json`.
        unlabelled: The cases without a label map.
        labelled: The cases with one.
    """

    description: DatasetDescription
    unlabelled: list[Case]
    labelled: list[Case]

    @classmethod
    def find(cls, folder: DatasetFolder, source: Path, output: Path | None = None) -> Pool:
        """Find the cases.

        Args:
            folder: The paths of the data set, whose training cases with a label map are labelled.
            source: The folder of unlabelled images. Those that have the name of a labelled case are
                left out; so it may be that of the training images.
            output: A folder in the source that is not looked at.

        Returns:
            The cases.

        Raises:
            UserError: The data set has no `dataset.json`, the folder holds no image, or all of its
                cases are labelled.
        """
        description = DatasetDescription.load(folder.description_file)
        labelled = find_labelled(folder)
        cases = find_prediction_input(source, description, output).cases
        names = {case.identifier for case in labelled}
        unlabelled = [case for case in cases if case.identifier not in names]
        if len(unlabelled) < len(cases):
            number = len(cases) - len(unlabelled)
            log.info("%d of %d cases are labelled already", number, len(cases))
        if not unlabelled:
            raise UserError(
                f"{source}: all {len(cases)} cases in it have the name of a labelled case of "
                f"{folder.name}; name a folder of unlabelled ones"
            )
        return cls(description, unlabelled, labelled)


def find_labelled(folder: DatasetFolder) -> list[Case]:
    """Find the labelled cases of a data set.

    Args:
        folder: The paths of the data set.

    Returns:
        The training cases that have a label map; none in a data set that has no images yet.

    Raises:
        UserError: The `dataset.json` is not usable.
    """
    is_listed = read_case_list(folder.description_file) is not None
    if not is_listed and not folder.training_labels.is_dir():
        return []
    cases = RawDataset.read(folder).cases
    return [case for case in cases if case.label_file is not None and case.label_file.is_file()]


def predict_missing(
    predictor: Predictor | EnsemblePredictor, cases: Sequence[Case], folders: Sequence[Path]
) -> None:
    """Predict the cases of which no signal of confidence is known.

    Cases that cannot be predicted are named in a warning.

    Args:
        predictor: The model.
        cases: The cases.
        folders: Where predictions with `confidence.csv` or `signals.csv` may lie. Cases that none
            of them has are predicted into the last one.

    Raises:
        UserError: The model consists of several, or the last folder cannot be written to.
    """
    from samnet.inference.files import predict_cases

    if isinstance(predictor, EnsemblePredictor):
        raise UserError("several models have no signals of confidence; name one of them")
    names = [case.identifier for case in cases]
    known = {one.identifier for one in read_candidates(names, folders) if one.is_predicted}
    missing = [case for case in cases if case.identifier not in known]
    if known:
        log.info("%d of %d cases are predicted already", len(known), len(cases))
    if not missing:
        return
    try:
        # A calibrated model says what Dice to expect, any other one what it rests on.
        predict_cases(predictor, missing, folders[-1], keep_signals=predictor.calibration is None)
    except UserError:
        raise
    except SamnetError as error:
        log.warning("%s", error)


def rank_pool(
    pool: Pool,
    strategy: str,
    seed: int,
    predictor: Predictor | None,
    folders: Sequence[Path],
) -> list[RankedCase]:
    """Order the unlabelled cases, predicting and comparing images as far as the strategy needs it.

    Args:
        pool: The cases.
        strategy: A name in `STRATEGIES`.
        seed: Fixes what is drawn at random.
        predictor: The model; None where there is none.
        folders: As for `predict_missing`.

    Returns:
        All unlabelled cases, ranked.

    Raises:
        UserError: As for `predict_missing`, or the strategy needs a model and there is none.
    """
    from samnet.annotation.features import measure_features

    chosen = find_strategy(strategy)
    if chosen.needs_predictions:
        if predictor is None:
            raise UserError(
                f"strategy {strategy}: needs a trained model; train one, or choose another strategy"
            )
        predict_missing(predictor, pool.unlabelled, folders)
    features, labelled = None, []
    if chosen.needs_features:
        num_channels = len(pool.description.channel_names)
        of_labelled = measure_features(pool.labelled, num_channels, predictor)
        labelled = [LabelledCase(name, numbers) for name, numbers in of_labelled.items()]
        features = measure_features(pool.unlabelled, num_channels, predictor)
    names = [case.identifier for case in pool.unlabelled]
    candidates: list[Candidate] = read_candidates(names, folders, features)
    return rank(candidates, strategy, seed, labelled)
