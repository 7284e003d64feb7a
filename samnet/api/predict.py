"""`samnet.predict`: segment a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from samnet.api.session import Folder, api_call, fold_names
from samnet.confidence.calibration import Expectation
from samnet.confidence.files import read_confidence
from samnet.core.job_array import select_part
from samnet.core.progress_listener import Progress
from samnet.dataset.cases import find_prediction_input
from samnet.inference.dicom_output import DicomOutput
from samnet.inference.ensemble import load_predictor
from samnet.inference.files import output_file, predict_cases
from samnet.inference.find_model import find_models
from samnet.inference.warning_file import read_warnings

_DICOM = {"seg": DicomOutput.SEGMENTATION, "rtstruct": DicomOutput.STRUCTURE_SET}


@dataclass(frozen=True)
class Predictions:
    """What a call of `samnet.predict` has predicted.

    Attributes:
        folder: The folder of the label maps.
        files: Name of a case -> its label map.
        confidence: Name of a case -> name of a class -> the Dice that is expected; empty where the
            model has no calibration.
        warnings: Name of a doubtful case -> what makes it doubtful.
    """

    folder: Path
    files: dict[str, Path]
    confidence: dict[str, dict[str, Expectation]]
    warnings: dict[str, tuple[str, ...]]

    @property
    def doubtful_cases(self) -> list[str]:
        """The cases to look at: those with warnings, and those whose expected Dice is low."""
        found = []
        for case in self.files:
            expected = self.confidence.get(case, {}).values()
            if case in self.warnings or any(entry.is_doubtful for entry in expected):
                found.append(case)
        return found

    def __repr__(self) -> str:
        return (
            f"Predictions({len(self.files)} cases in {str(self.folder)!r}, "
            f"{len(self.doubtful_cases)} to look at)"
        )


def predict(
    images: Folder,
    output: Folder,
    *,
    model: Folder | Sequence[Folder] | None = None,
    dataset: int | str | None = None,
    configuration: str | Sequence[str] | None = None,
    folds: Sequence[int | str] | None = None,
    results: Folder | None = None,
    checkpoint: Literal["final", "best", "last"] = "final",
    device: str | None = None,
    mirror: bool | None = None,
    postprocess: bool = True,
    keep_existing: bool = False,
    save_probabilities: bool = False,
    uncertainty: bool = False,
    dicom: Literal["seg", "rtstruct"] | None = None,
    num_parts: int = 1,
    part: int = 0,
    progress: Progress | bool | None = None,
) -> Predictions:
    """Segment a folder of images and write label maps, as `samnet_predict` does.

    For single images in memory, see `samnet.Predictor.predict`.

    Args:
        images: A folder of images or DICOM series, or one file.
        output: The folder for the label maps.
        model: The folder of a trained model, or of one of its folds; several are averaged.
        dataset: Id or name of the data set that the model was trained on, in place of `model`.
        configuration: Its configuration, or several that are averaged, in place of `model`.
        folds: The folds to average; None for all finished ones of the cross-validation, else
            `all`.
        results: The folder of trained models, for `dataset` and `configuration`; by default the
            environment variable `samnet_results`, else `samnet_data/results`.
        checkpoint: Which weights: those of a finished run, the best so far, or the last ones.
        device: `cpu`, `cuda` or `mps`; None for the best one here.
        mirror: Whether to average over mirrored inputs; None for what the plan says.
        postprocess: Whether to apply the rules that are kept with the model.
        keep_existing: Whether to skip cases whose label map is there already, as after a stop.
            Those that other weights or options have made are predicted again.
        save_probabilities: Whether to write the probabilities too, as `CASE.npz`.
        uncertainty: Whether to write maps of where predictions are uncertain, too.
        dicom: Write DICOM segmentations (`seg`) or structure sets (`rtstruct`) in place of NIfTI.
        num_parts: Number of parts into which several jobs divide the cases.
        part: The part to predict, from 0.
        progress: As for `samnet.verify`. Label maps that are complete stay; the same call with
            `keep_existing=True` finishes the others.

    Returns:
        The label maps, what Dice is expected of them, and which ones to look at.

    Raises:
        UserError: There is no such model, or nothing to predict.
        SamnetError: Cases failed; each is named with its reason, the others are written.

    Examples:
        >>> found = samnet.predict("scans", "out", model="data/results/Dataset008_Liver/lora")
        >>> found.doubtful_cases
        ['patient_12']
    """
    folder = Path(output)
    with api_call(progress, results=results):
        models = find_models(
            _paths(model), None if dataset is None else str(dataset), _names(configuration)
        )
        predictor = load_predictor(
            models,
            fold_names(folds),
            device=device,
            checkpoint=checkpoint,
            mirror=mirror,
            postprocess=postprocess,
        )
        if uncertainty:
            predictor = replace(predictor, maps_uncertainty=True)
        source = find_prediction_input(Path(images), predictor.plan.description, folder)
        cases = select_part(source.cases, num_parts, part)
        with source.reminder_of_left_out():
            predict_cases(
                predictor,
                cases,
                folder,
                keep_existing=keep_existing,
                dicom_output=None if dicom is None else _DICOM[dicom],
                save_probabilities=save_probabilities,
                note_predictor=True,
            )
    names = [case.identifier for case in cases]
    is_dicom = dicom is not None
    confidence, warnings = read_confidence(folder), read_warnings(folder)
    return Predictions(
        folder,
        {case.identifier: output_file(case, folder, is_dicom) for case in cases},
        {name: confidence[name] for name in names if name in confidence},
        {name: tuple(warnings[name]) for name in names if name in warnings},
    )


def _paths(model: Folder | Sequence[Folder] | None) -> list[Path]:
    if model is None:
        return []
    if isinstance(model, (str, Path)) or not isinstance(model, Sequence):
        return [Path(model)]
    return [Path(folder) for folder in model]


def _names(configuration: str | Sequence[str] | None) -> list[str]:
    if configuration is None:
        return []
    return [configuration] if isinstance(configuration, str) else list(configuration)
