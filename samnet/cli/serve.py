"""`samnet_serve`: serve a data set and its models to 3D Slicer, OHIF and QuPath."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from samnet.cli.command import (
    Command,
    add_processes_option,
    duration,
    non_negative_int,
    positive_int,
)

_TOKEN_VARIABLE = "samnet_token"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_contents(parser)
    _add_access(parser)
    _add_limits(parser)
    parser.epilog = (
        "Speaks MONAI Label's protocol, so that its modules for 3D Slicer, OHIF and QuPath can "
        "predict, fetch the next image, save labels and start training runs. Saved labels become "
        "training data: imagesTr and labelsTr of the data set. Uploaded images go to "
        "imagesUnlabelled."
    )


def _add_contents(parser: argparse.ArgumentParser) -> None:
    """Add what is served, and how it predicts and trains."""
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="ID", help="id or name of a data set, such as 8"
    )
    parser.add_argument(
        "-c",
        "--configuration",
        nargs="+",
        action="extend",
        default=[],
        metavar="CONFIG",
        help="its configurations to serve and to train (default: all that are trained, else lora)",
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="folders of further trained models; they are not trained",
    )
    parser.add_argument(
        "-f",
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="folds of each model to average (default: all, where it is trained, else every "
        "finished one)",
    )
    parser.add_argument(
        "-i",
        "--images",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="further folders of images without labels, or of DICOM series; nothing is written "
        "there",
    )
    parser.add_argument(
        "--ranking",
        type=Path,
        metavar="FILE",
        help="the next.csv of samnet_next, for the strategy ranked; it may be written again "
        "while the server runs",
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
        "--train-time",
        default="10m",
        metavar="TIME",
        help="duration of a training run that a client starts, such as 30m (default: 10m)",
    )
    parser.add_argument(
        "--train-steps",
        type=positive_int,
        metavar="N",
        help="steps of such a training run, in place of a duration",
    )
    add_processes_option(parser)


def _add_access(parser: argparse.ArgumentParser) -> None:
    """Add where the server listens, and who may use it."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to listen on; others than the default need a token (default: 127.0.0.1, for "
        "programs on this machine)",
    )
    parser.add_argument(
        "--port",
        type=non_negative_int,
        default=8000,
        metavar="PORT",
        help="port to listen on, 0 for any free one (default: 8000)",
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="what clients have to send, 16 characters or more: as the password of any user name, "
        "or as a bearer token; other users of this machine can see it, but not the variable "
        f"{_TOKEN_VARIABLE}, which does the same",
    )
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="TLS certificate (PEM), with --key"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="key of the certificate (PEM)")
    parser.add_argument(
        "--allow-origin",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL",
        help="web pages that may use the server, such as http://localhost:3000 for OHIF (default: "
        "none)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add how much the server takes."""
    parser.add_argument(
        "--max-upload",
        default="2G",
        metavar="SIZE",
        help="largest upload, such as 500M (default: 2G)",
    )
    parser.add_argument(
        "--queue",
        type=non_negative_int,
        default=8,
        metavar="N",
        help="predictions that may wait while one is computed (default: 8)",
    )
    parser.add_argument(
        "--keep-models",
        type=positive_int,
        default=2,
        metavar="N",
        help="models that are kept in memory (default: 2)",
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.machine import parse_memory
    from samnet.dataset.dataset_folder import DatasetFolder
    from samnet.serving.server import choose_models, serve
    from samnet.serving.settings import (
        GIB,
        Access,
        Limits,
        ServerSettings,
        TrainingSettings,
    )

    settings = ServerSettings(
        Access(
            options.host,
            options.port,
            options.token or os.environ.get(_TOKEN_VARIABLE) or None,
            options.certificate,
            options.key,
            tuple(options.allow_origin),
        ),
        Limits(
            upload_bytes=int(parse_memory(options.max_upload) * GIB),
            waiting=options.queue,
            loaded_models=options.keep_models,
        ),
        TrainingSettings(_checked(options.train_time), options.train_steps, options.processes),
        options.device,
        False if options.no_mirror else None,
        options.ranking,
    )
    settings.access.check()
    folder = DatasetFolder.find(options.dataset)
    models = choose_models(folder, options.model, options.configuration, options.folds)
    serve(folder, models, settings, options.images)


def _checked(text: str) -> str:
    """Return a duration as it was typed; it is passed on to samnet_train."""
    from samnet.core.errors import UserError

    try:
        duration(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--train-time: {error}") from None
    return text


COMMAND = Command(
    "samnet_serve",
    "Serve a data set and its models to programs for annotation, such as 3D Slicer and OHIF.",
    _add_arguments,
    _run,
    how_to_resume="the same command starts the server again",
    examples=(
        ("samnet_serve -d 8", "serve data set 8 at http://127.0.0.1:8000"),
        (
            "samnet_serve -d 8 -i new_scans -c lora",
            "serve further images too, and one configuration only",
        ),
    ),
)
main = COMMAND.main
