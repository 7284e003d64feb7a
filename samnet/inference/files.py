"""Predicting files: case by case, resumable, one bad case never stopping the others."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from samnet.confidence.calibration import Expectation
from samnet.confidence.files import (
    confidence_table,
    record_confidence,
    record_signals,
    signals_table,
)
from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.core.locks import lock_folder
from samnet.core.prefetch import prefetch
from samnet.core.progress import ProgressBar
from samnet.core.worker_pool import Outcome, describe_error
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case
from samnet.dataset.images import Image, ending_of, label_ending_for, write_labels
from samnet.inference.description_file import describe_labels_in
from samnet.inference.dicom_output import ENDING as DICOM_ENDING
from samnet.inference.dicom_output import DicomOutput
from samnet.inference.doubtful import report_confidence, report_warnings
from samnet.inference.ensemble import EnsemblePredictor
from samnet.inference.predicted_with import (
    PredictorRecord,
    cases_of_others,
    record_predictor,
    warn_of_others,
)
from samnet.inference.prediction import Prediction
from samnet.inference.predictor import Predictor
from samnet.inference.probability_files import probability_file, write_probabilities
from samnet.inference.warning_file import record_warnings

log = logging.getLogger(__name__)
PREDICTING = "predicting"  # the name of the progress bar
UNCERTAINTY_FOLDER = "uncertainty"  # next to the label maps


def predict_cases(
    predictor: Predictor | EnsemblePredictor,
    cases: Sequence[Case],
    output: Path,
    *,
    keep_existing: bool = False,
    dicom_output: DicomOutput | None = None,
    save_probabilities: bool = False,
    keep_signals: bool = False,
    note_predictor: bool = False,
    ends_at: float | None = None,
) -> int:
    """Write a label map for every case, named as the case, on the grid of its image.

    A `dataset.json` next to them says what the labels mean; DICOM segmentations say it themselves.
    What makes a prediction doubtful is in the log and in `prediction_warnings.json` next to them,
    and what Dice is expected, where the model is calibrated, in `confidence.csv`. Maps of the
    uncertainty, where the model makes them, lie in the folder `uncertainty`.
    While the networks work on a case, the next one is read and the one before it is written. Of two
    processes that are to predict the same cases into one folder, one waits for the other.

    Args:
        predictor: The model, or several that are averaged.
        cases: The cases.
        output: The folder for the label maps.
        keep_existing: Whether to keep finished label maps, with `note_predictor` those of the same
            predictor.
        dicom_output: What to write in place of NIfTI: DICOM segmentations or structure sets. Every
            case has to be a DICOM series. None for label maps.
        save_probabilities: Whether to write the probabilities too, next to the label map; see
            `samnet.inference.probability_files`.
        keep_signals: Whether to keep how sure the networks are in `signals.csv`, for a calibration.
        note_predictor: Whether to note what made each label map, in `predicted_with.json`. Those
            that another predictor has made are named in warnings, and not kept.
        ends_at: When to be finished, by `time.monotonic`. A case that is not expected to be
            predicted by then is left out, except the first. None for no end.

    Returns:
        The number of cases that are left out.

    Raises:
        UserError: The output is not a folder, a label map would replace an image, or a case cannot
            be written as such a DICOM object.
        SamnetError: Cases failed; each is named with its reason, the others are written.
    """
    if dicom_output is not None:
        dicom_output.check(predictor.plan.label_scheme, cases)
    is_dicom = dicom_output is not None
    record = PredictorRecord.of(predictor) if note_predictor else None
    targets = {case.identifier: output_file(case, output, is_dicom) for case in cases}
    _check_output(cases, output, {file.name for file in targets.values()})
    with lock_folder(output, f"predicting {_key_of_names(cases)}"):
        open_cases = list(cases)
        if keep_existing:
            maps = predictor.maps_uncertainty
            open_cases = _unfinished(cases, targets, save_probabilities, maps, record)
        extras = _Extras(keep_signals, save_probabilities, dicom_output, record)
        outcome = _predict_cases(predictor, open_cases, targets, extras, ends_at)
        if not is_dicom and any(file.is_file() for file in targets.values()):
            describe_labels_in(output, predictor.plan.description)
    if record is not None:
        warn_of_others(output, record)
    outcome.raise_if_failed("prediction")
    log.info("%s: %s", "DICOM files" if is_dicom else "label maps", output)
    return sum(not file.is_file() for file in targets.values())


@dataclass(frozen=True)
class _Extras:
    """What is written in addition to label maps, or in place of them.

    Attributes:
        keep_signals: Whether to keep signals, in place of what they let expect.
        save_probabilities: Whether to write probabilities.
        dicom_output: What is written in place of label maps; None for label maps.
        record: What is noted as the predictor; None for nothing.
    """

    keep_signals: bool
    save_probabilities: bool
    dicom_output: DicomOutput | None
    record: PredictorRecord | None


def _predict_cases(
    predictor: Predictor | EnsemblePredictor,
    cases: Sequence[Case],
    targets: dict[str, Path],
    extras: _Extras,
    ends_at: float | None,
) -> Outcome:
    outcome = Outcome()
    doubtful: dict[str, tuple[str, ...]] = {}
    confidence: dict[str, dict[str, Expectation]] = {}
    names = {case.identifier for case in cases}
    for folder in {file.parent for file in targets.values()}:
        signals_table(folder).forget(names)
        confidence_table(folder).forget(names)
    started = time.monotonic()
    read = partial(_read, len(predictor.plan.channel_names))
    predict = predictor.predict_and_check
    if extras.save_probabilities:
        predict = partial(predict, keep_probabilities=True)
    steps = _until(ends_at, prefetch(read, cases))
    with ProgressBar(total=len(cases), desc=PREDICTING, unit="case") as bar:
        predicted = _predict_all(predict, steps, bar)
        for step in prefetch(partial(_write, predictor, targets, extras), predicted):
            name = step.case.identifier
            if step.failure is None:
                outcome.results[name] = targets[name]
                if step.warnings:
                    doubtful[name] = step.warnings
                confidence[name] = step.confidence
            else:
                outcome.failures[name] = step.failure
    seconds = time.monotonic() - started
    log.info("predicted %d cases in %.0f s", len(outcome.results), seconds)
    report_warnings(doubtful, targets, len(outcome.results))
    if not extras.keep_signals:
        report_confidence(confidence, targets)
    return outcome


def _unfinished(
    cases: Sequence[Case],
    targets: dict[str, Path],
    save_probabilities: bool,
    maps_uncertainty: bool,
    record: PredictorRecord | None,
) -> list[Case]:
    """Return the cases of which a file is missing, or was made by another predictor."""
    others = set(cases_of_others(targets, record)) if record else set()
    unfinished = []
    for case in cases:
        target = targets[case.identifier]
        files = [target]
        if save_probabilities:
            files.append(probability_file(target.parent, case.identifier))
        if maps_uncertainty:
            files.append(output_file(case, target.parent / UNCERTAINTY_FOLDER))
        if case.identifier in others or not all(file.is_file() for file in files):
            unfinished.append(case)
    if len(unfinished) < len(cases):
        num_done = len(cases) - len(unfinished)
        log.info("%d of %d cases are predicted already", num_done, len(cases))
    return unfinished


def _until(ends_at: float | None, steps: Iterator[_Step]) -> Iterator[_Step]:
    """Yield steps as long as another one as long as the longest so far ends in time."""
    longest = 0.0
    for number, step in enumerate(steps):
        started = time.monotonic()
        if ends_at is not None and number and started + longest > ends_at:
            return
        yield step
        longest = max(longest, time.monotonic() - started)


@dataclass(frozen=True)
class _Step:
    """A case on its way from one thread to the next.

    It holds the image, then the prediction too; after writing, what makes it doubtful and what is
    expected of it; or the reason why the case failed.
    """

    case: Case
    image: Image | None = None
    prediction: Prediction | None = None
    warnings: tuple[str, ...] = ()
    confidence: dict[str, Expectation] = field(default_factory=dict)
    failure: str | None = None


def _failed(case: Case, error: Exception) -> _Step:
    # The error itself holds on to all that the case was made of, and the next case needs that
    # memory: only its text is kept.
    log.debug("case %s failed", case.identifier, exc_info=error)
    return _Step(case, failure=describe_error(error))


def _read(num_channels: int, case: Case) -> _Step:
    try:
        return _Step(case, read_aligned_image(case, num_channels))
    except Exception as error:
        return _failed(case, error)


def _predict_all(
    predict: Callable[[np.ndarray, Grid], Prediction], steps: Iterator[_Step], bar: ProgressBar
) -> Iterator[_Step]:
    for step in steps:
        bar.set_postfix_str(step.case.identifier)
        predicted = _predict(predict, step)
        bar.update()
        yield predicted


def _predict(predict: Callable[[np.ndarray, Grid], Prediction], step: _Step) -> _Step:
    if step.image is None:
        return step
    try:
        prediction = predict(step.image.array, step.image.grid)
        return replace(step, prediction=prediction)
    except Exception as error:
        return _failed(step.case, error)


def _write(
    predictor: Predictor | EnsemblePredictor, targets: dict[str, Path], extras: _Extras, step: _Step
) -> _Step:
    """Write the label map, or the DICOM object in its place, and what belongs to it."""
    prediction, name = step.prediction, step.case.identifier
    if prediction is None or step.image is None:
        return step
    file = targets[name]
    for sentence in prediction.warnings:
        log.warning("%s: %s", name, sentence)
    try:
        # Before the label map: one that is there, and kept, has all that is noted of it.
        record_warnings(file.parent, name, prediction.warnings)
        is_replaced = file.is_file()
        if extras.record is not None and not is_replaced:
            record_predictor(file.parent, [name], extras.record)
        if extras.keep_signals:
            record_signals(file.parent, name, prediction.signals)
        elif prediction.confidence:
            record_confidence(file.parent, name, prediction.confidence)
        if prediction.uncertainty is not None:
            map_file = output_file(step.case, file.parent / UNCERTAINTY_FOLDER)
            write_labels(prediction.uncertainty, step.image, map_file)
        if prediction.probabilities is not None:
            probabilities = prediction.probabilities
            target = probability_file(file.parent, name)
            write_probabilities(target, probabilities.shape, probabilities.slabs())
        if extras.dicom_output is None:
            write_labels(prediction.labels, step.image, file)
        else:
            scheme = predictor.plan.label_scheme
            extras.dicom_output.write(prediction.labels, step.image, scheme, file)
        if extras.record is not None and is_replaced:
            # After it: until then, the one that is there was made by what is noted.
            record_predictor(file.parent, [name], extras.record)
    except Exception as error:
        return _failed(step.case, error)
    return _Step(step.case, warnings=prediction.warnings, confidence=prediction.confidence)


def _check_output(cases: Sequence[Case], output: Path, names: set[str]) -> None:
    """Refuse what is not a folder, and one where an image would be replaced."""
    if ending_of(output) is not None or (output.exists() and not output.is_dir()):
        raise UserError(
            f"{output}: the output has to be a folder; label maps in it are named as their cases"
        )
    for case in cases:
        for image in case.image_files:
            if image.name in names and image.parent.resolve() == output.resolve():
                raise UserError(
                    f"{image}: a label map of this name would replace the image; choose another "
                    "folder with -o"
                )


def _key_of_names(cases: Sequence[Case]) -> str:
    """Return a key of these cases: parts of a job array work side by side in one folder."""
    names = "\0".join(sorted(case.identifier for case in cases))
    return hashlib.sha256(names.encode()).hexdigest()[:8]


def output_file(case: Case, output: Path, is_dicom: bool = False) -> Path:
    """Return where the label map of a case goes.

    Args:
        case: The case.
        output: The folder for the label maps.
        is_dicom: Whether it is a DICOM object.

    Returns:
        The case's name with the ending of its image, if that can hold labels.
    """
    ending = DICOM_ENDING if is_dicom else label_ending_for(case.image_files[0])
    return output / f"{case.identifier}{ending}"
