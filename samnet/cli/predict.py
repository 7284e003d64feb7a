"""`samnet_predict`: segment images with a trained model."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, add_part_options, chosen_part
from samnet.core.errors import UserError

if TYPE_CHECKING:
    from samnet.dataset.cases import Case
    from samnet.dataset.description import DatasetDescription
    from samnet.inference.dicom_output import DicomOutput


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        metavar="IN",
        help="a folder of images or DICOM series, or one file",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the label maps"
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="folder of a model (a configuration or fold); the probabilities of several are "
        "averaged",
    )
    parser.add_argument(
        "-d", "--dataset", metavar="ID", help="the data set the model was trained on"
    )
    parser.add_argument(
        "-c",
        "--configuration",
        nargs="+",
        action="extend",
        default=[],
        metavar="CONFIG",
        help="its configuration; the probabilities of several are averaged",
    )
    parser.add_argument(
        "-f",
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="folds to average (default: all finished ones of the cross-validation, else the fold "
        "all)",
    )
    parser.add_argument(
        "--checkpoint",
        choices=("final", "best", "last"),
        default="final",
        help="which weights of a training run: final, which only a finished run has and which are "
        "those of the best epoch where cases were held out; best, those of the best epoch so far; "
        "last, those that were saved last (default: final)",
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or mps (default: the best one here)"
    )
    parser.add_argument(
        "--no-mirror",
        action="store_true",
        help="do not average over mirrored inputs: faster, seldom as good",
    )
    parser.add_argument(
        "--no-postprocessing",
        action="store_true",
        help="leave out the rules for components and holes that are kept with the model",
    )
    parser.add_argument(
        "--continue",
        dest="keep_existing",
        action="store_true",
        help="skip cases whose label map is in OUT already, as after an interruption, unless other "
        "weights or options made it; else all are predicted again",
    )
    parser.add_argument(
        "--save-probabilities",
        action="store_true",
        help="also write OUT/CASE.npz, which samnet_ensemble averages: the array probabilities "
        "(outputs, Z, Y, X), float16, on the grid of the image",
    )
    dicom = parser.add_mutually_exclusive_group()
    dicom.add_argument(
        "--dicom-seg",
        action="store_true",
        help="write DICOM segmentations in place of NIfTI (every case a DICOM series); needs the "
        "extra dicom",
    )
    dicom.add_argument(
        "--dicom-rtstruct",
        action="store_true",
        help="write contours as DICOM structure sets in place of NIfTI (every case a DICOM series)",
    )
    parser.add_argument(
        "--colour",
        action="store_true",
        help="also draw the outlines of the classes on the images, as PNG in OUT/colour: 2D images "
        "at their full size, of volumes the three planes with most foreground",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write where each prediction is uncertain: OUT/uncertainty holds 100 minus the "
        "highest probability of a class in percent, as whole numbers on the grid of the image",
    )
    add_part_options(parser)
    parser.epilog = (
        "Several models need the same channels and labels; all else may differ, and each weighs "
        "the same. -f, --checkpoint and --no-mirror hold for each of them.\n"
        "Without -m, -d, -c the only trained model is taken. Nothing else is needed to predict: no "
        "labels, and with -m no environment variables. Label maps lie on the grids of their "
        "images. What lies in IN and is not predicted is named in warnings.\n"
        "Images unlike the training images, and empty predictions, are named in the log and in "
        "OUT/prediction_warnings.json. Where the model was validated on held-out cases, "
        "OUT/confidence.csv says what Dice is expected, by class, and which predictions to look "
        "at. OUT/predicted_with.json says which weights and options made each label map."
    )


def _run(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from samnet.core.job_array import select_part
    from samnet.dataset.cases import find_prediction_input
    from samnet.inference.ensemble import load_predictor
    from samnet.inference.files import predict_cases
    from samnet.inference.find_model import find_models

    dicom_output = _dicom_output(options)
    if options.colour and dicom_output is not None:
        raise UserError(
            f"--colour draws label maps, which {dicom_output.value} does not write; leave out one"
        )
    predictor = load_predictor(
        find_models(options.model, options.dataset, options.configuration),
        options.folds,
        device=options.device,
        checkpoint=options.checkpoint,
        mirror=False if options.no_mirror else None,
        postprocess=not options.no_postprocessing,
    )
    if options.uncertainty:
        predictor = replace(predictor, maps_uncertainty=True)
    source = find_prediction_input(options.input, predictor.plan.description, options.output)
    part = select_part(source.cases, *chosen_part(options))
    with source.reminder_of_left_out(), contextlib.ExitStack() as afterwards:
        if options.colour:
            # Also where some cases fail: the others are predicted.
            afterwards.callback(_draw_in_colour, predictor.plan.description, part, options.output)
        predict_cases(
            predictor,
            part,
            options.output,
            keep_existing=options.keep_existing,
            dicom_output=dicom_output,
            save_probabilities=options.save_probabilities,
            note_predictor=True,
        )


def _dicom_output(options: argparse.Namespace) -> DicomOutput | None:
    from samnet.inference.dicom_output import DicomOutput

    if options.dicom_seg:
        return DicomOutput.SEGMENTATION
    return DicomOutput.STRUCTURE_SET if options.dicom_rtstruct else None


def _draw_in_colour(description: DatasetDescription, cases: Sequence[Case], output: Path) -> None:
    from samnet.evaluation.overlays.coloured_masks import COLOUR_FOLDER, draw_coloured_masks
    from samnet.evaluation.overlays.colours import name_colours
    from samnet.inference.files import output_file

    drawn = draw_coloured_masks(cases, lambda case: output_file(case, output), description, output)
    print(f"{len(drawn)} of {len(cases)} predictions in colour: {output / COLOUR_FOLDER}")
    print(f"outlines: {name_colours(description.label_scheme.class_names)}")


COMMAND = Command(
    "samnet_predict",
    "Segment images with a trained model, or with several that are averaged.",
    _add_arguments,
    _run,
    how_to_resume="the same command resumes it with --continue, and begins again without",
    examples=(
        (
            "samnet_predict -i scans -o masks -d 8 -c lora",
            "segment the images in scans with a trained configuration",
        ),
        (
            "samnet_predict -i scan.nii.gz -o masks -m results/Dataset008_Spleen/lora",
            "segment one file with the model in a folder",
        ),
        (
            "samnet_predict -i scans -o masks -d 8 -c lora full --uncertainty",
            "average two configurations, and write where they are uncertain",
        ),
        (
            "samnet_predict -i studies -o masks -d 8 -c lora --dicom-seg",
            "segment DICOM series, and write DICOM segmentations",
        ),
    ),
)
main = COMMAND.main
