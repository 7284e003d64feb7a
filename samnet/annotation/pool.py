"""The unlabelled cases of a folder, the labelled ones of a data set, and their ranking."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.annotation.candidate import read_candidates
from samnet.annotation.features import measure_features
from samnet.annotation.ranking import RankedCase, find_strategy, rank
from samnet.annotation.strategies import LabelledCase
from samnet.core.errors import SamnetError, UserError
from samnet.dataset.case_list import read_case_list
from samnet.dataset.cases import Case, RawDataset, find_prediction_input
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DatasetDescription
from samnet.inference.files import predict_cases
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
    labels = folder.training_labels
    if not is_listed and not (labels.is_dir() and any(labels.iterdir())):
        return []
    cases = RawDataset.read(folder).cases
    return [case for case in cases if case.label_file is not None and case.label_file.is_file()]


def predict_missing(
    predictor: Predictor, cases: Sequence[Case], kept: Sequence[Path], output: Path
) -> None:
    """Predict the cases of which no prediction is to be kept.

    Cases that cannot be predicted are named in a warning.

    Args:
        predictor: The model.
        cases: The cases.
        kept: Folders of predictions whose `confidence.csv` or `signals.csv` is used.
        output: The folder for the other predictions.

    Raises:
        UserError: The folder cannot be written to.
    """
    names = [case.identifier for case in cases]
    known = {one.identifier for one in read_candidates(names, kept) if one.is_predicted}
    missing = [case for case in cases if case.identifier not in known]
    if known:
        log.info("%d of %d cases are predicted already", len(known), len(cases))
    if not missing:
        return
    try:
        # A calibrated model says what Dice to expect, any other one what it rests on.
        predict_cases(predictor, missing, output, keep_signals=predictor.calibration is None)
    except UserError:
        raise
    except SamnetError as error:
        log.warning("%s", error)


def rank_pool(
    pool: Pool,
    strategy: str,
    seed: int,
    predictor: Predictor | None,
    kept: Sequence[Path],
    output: Path,
) -> list[RankedCase]:
    """Order the unlabelled cases, predicting and comparing images as far as the strategy needs it.

    Args:
        pool: The cases.
        strategy: A name in `STRATEGIES`.
        seed: Fixes what is drawn at random.
        predictor: The model; None where there is none.
        kept: As for `predict_missing`.
        output: As for `predict_missing`.

    Returns:
        All unlabelled cases, ranked.

    Raises:
        UserError: As for `predict_missing`, or the strategy needs a model and there is none.
    """
    chosen = find_strategy(strategy)
    if predictor is not None:
        _check_channels(pool, predictor)
    if chosen.needs_predictions:
        if predictor is None:
            raise UserError(
                f"strategy {strategy}: needs a trained model; train one, or choose another strategy"
            )
        predict_missing(predictor, pool.unlabelled, kept, output)
    features: dict[str, np.ndarray] | None = None
    labelled: list[LabelledCase] = []
    if chosen.needs_features:
        num_channels = len(pool.description.channel_names)
        of_labelled = measure_features(pool.labelled, num_channels, predictor)
        labelled = [LabelledCase(name, numbers) for name, numbers in of_labelled.items()]
        features = measure_features(pool.unlabelled, num_channels, predictor)
    names = [case.identifier for case in pool.unlabelled]
    candidates = read_candidates(names, [*kept, output], features)
    return rank(candidates, strategy, seed, labelled)


def _check_channels(pool: Pool, predictor: Predictor) -> None:
    """Refuse a model that takes other images than those of the data set."""
    of_model, of_dataset = predictor.plan.channel_names, pool.description.channel_names
    if len(of_model) != len(of_dataset):
        raise UserError(
            f"the model was trained on {', '.join(of_model)}, the data set has "
            f"{', '.join(of_dataset)}; name a model of this data set"
        )
