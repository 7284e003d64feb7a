"""`samnet_next`: which unlabelled cases to label next."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, non_negative_int, positive_int
from samnet.core.errors import UserError

if TYPE_CHECKING:
    from samnet.dataset.dataset_folder import DatasetFolder
    from samnet.inference.predictor import Predictor

log = logging.getLogger(__name__)
_SUMMARY = """\
Rank unlabelled images: which of them to label next. Writes next.csv with all of them in their
order, and prints the first ones."""
_PREDICTIONS = "predictions"  # in the output folder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d",
        "--dataset",
        required=True,
        metavar="ID",
        help="the data set to which labelled cases are added",
    )
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        metavar="IN",
        help="a folder of unlabelled images or DICOM series; it may be imagesTr: cases that the "
        "data set has labels of are left out",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("next"),
        metavar="OUT",
        help="folder for next.csv, and for predictions as far as the strategy needs them "
        "(default: next)",
    )
    parser.add_argument(
        "-n",
        "--number",
        type=positive_int,
        default=5,
        metavar="N",
        help="number of cases to print (default: 5)",
    )
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        help="random, foreground, doubtful, unlike, typical or mixed (default: random)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="seed of what is drawn at random (default: 0)",
    )
    parser.add_argument(
        "-m", "--model", type=Path, metavar="FOLDER", help="folder of a model, in place of -c"
    )
    parser.add_argument(
        "-c",
        "--configuration",
        metavar="CONFIG",
        help="the trained configuration that looks at the images (default: the only one)",
    )
    parser.add_argument(
        "-f", "--folds", nargs="+", metavar="FOLD", help="folds to average, as for samnet_predict"
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or mps (default: the best one here)"
    )
    parser.add_argument(
        "-p",
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="predictions of samnet_predict; cases that are in their confidence.csv are not "
        "predicted again",
    )
    parser.add_argument(
        "--continue",
        dest="keep_existing",
        action="store_true",
        help="keep the predictions in OUT, as after an interruption; else all are made again, "
        "because the model may have changed",
    )
    parser.epilog = (
        "random, unlike and typical need no trained model; without one, unlike and typical compare "
        "images by spacing, size and intensities. docs/next.md says what each strategy prefers, "
        "and what they gained in simulated annotation."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.annotation.pool import Pool, rank_pool
    from samnet.annotation.ranking import find_strategy
    from samnet.annotation.strategies import DEFAULT
    from samnet.annotation.table import format_ranking, write_ranking
    from samnet.dataset.dataset_folder import DatasetFolder

    name = DEFAULT if options.strategy is None else options.strategy
    strategy = find_strategy(name)
    if options.predictions is not None and not options.predictions.is_dir():
        raise UserError(f"-p {options.predictions}: no such folder")
    folder = DatasetFolder.find(options.dataset)
    pool = Pool.find(folder, options.input, options.output)
    predictor = None
    if strategy.needs_predictions or strategy.needs_features:
        predictor = _load_model(options, folder, is_needed=strategy.needs_predictions)
    own = options.output / _PREDICTIONS
    kept = [] if options.predictions is None else [options.predictions]
    if options.keep_existing:
        kept.append(own)
    ranked = rank_pool(pool, name, options.seed, predictor, kept, own)
    file = write_ranking(ranked, options.output)
    print(f"strategy {name}: {strategy.summary}\n")
    print(format_ranking(ranked, options.number))
    print(f"\nall {len(ranked)} cases: {file}")


def _load_model(
    options: argparse.Namespace, folder: DatasetFolder, *, is_needed: bool
) -> Predictor | None:
    """Load the model that is named, or the only one; None without any, if none is needed."""
    from samnet.inference.find_model import find_model
    from samnet.inference.predictor import Predictor
    from samnet.models.model_folder import list_models

    if options.model is not None:
        model = find_model(options.model, None, options.configuration)
    else:
        trained = [model for model in list_models() if model.path.parent.name == folder.name]
        is_named = options.configuration is not None
        if not is_needed and not is_named and not any(model.is_finished for model in trained):
            log.info(
                "%s has no trained model: images are compared by spacing, size and intensities",
                folder.name,
            )
            return None
        model = find_model(None, options.dataset, options.configuration)
    return Predictor.from_folder(model.path, options.folds, device=options.device)


COMMAND = Command(
    "samnet_next",
    _SUMMARY,
    _add_arguments,
    _run,
    how_to_resume="the same command resumes it with --continue, and begins again without",
    examples=(
        ("samnet_next -d 8 -i unlabelled", "rank the images at random"),
        (
            "samnet_next -d 8 -i unlabelled --strategy mixed -c lora -n 10",
            "rank them by a trained model, and print the first 10",
        ),
    ),
)
main = COMMAND.main
