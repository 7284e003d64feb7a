"""Values of the plan given on the command line, as `--set KEY=VALUE`."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--set KEY=VALUE`.

    Args:
        parser: The parser of a command.
    """
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        type=key_and_value,
        default=[],
        metavar="KEY=VALUE",
        help="set any value of the plan, such as zoom=3 or views=[0]; may be repeated",
    )


def key_and_value(text: str) -> tuple[str, Any]:
    """Read `KEY=VALUE`, for the `type` of an option.

    Args:
        text: What the user typed. The value is read as JSON. Where it is no JSON, it is text or, in
            brackets, a list of texts.

    Returns:
        Key and value, such as `("zoom", 3)`.

    Raises:
        argparse.ArgumentTypeError: It is not `KEY=VALUE`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        pass
    if value in ("True", "False"):
        return key, value == "True"
    # A shell removes the quotes of ["q", "v"].
    if value.startswith("[") and value.endswith("]"):
        return key, [entry.strip() for entry in value[1:-1].split(",")]
    return key, value
