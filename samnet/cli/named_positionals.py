"""Arguments that are given in order, as in `8 lora 0`, or by flags, as in `-d 8 -c lora -f 0`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

# Name of an argument, which is also its long flag -> its short flag, and an example.
_ARGUMENTS = {"dataset": ("-d", "8"), "configuration": ("-c", "lora"), "fold": ("-f", "0")}
_FLAGGED = "flagged_"  # before the name of an argument: what its flag gave


def add_named_positional(
    parser: argparse.ArgumentParser, name: str, metavar: str, description: str
) -> None:
    """Add an argument in both forms. `read_named_positionals` joins them.

    Args:
        parser: The parser of a command.
        name: `dataset`, `configuration` or `fold`.
        metavar: What the help calls a value.
        description: The help.
    """
    parser.add_argument(name, nargs="?", metavar=metavar, help=description)
    flag, _ = _ARGUMENTS[name]
    parser.add_argument(
        flag,
        f"--{name}",
        dest=_FLAGGED + name,
        metavar=metavar,
        help=f"{metavar} as a flag, in place of the form in order",
    )


def read_named_positionals(
    options: argparse.Namespace, required: Sequence[str], defaults: Mapping[str, str] | None = None
) -> None:
    """Set each argument of `add_named_positional` to the value of the form that was used.

    Args:
        options: The parsed options, which are changed.
        required: Names of the arguments that have to be given.
        defaults: Name -> value of those that may be left out; None where there are none.

    Raises:
        UserError: Both forms are mixed, or a required argument is missing.
    """
    from samnet.core.errors import UserError

    defaults = {} if defaults is None else defaults
    names = [*required, *defaults]
    in_order = {name: getattr(options, name) for name in names}
    flagged = {name: getattr(options, _FLAGGED + name) for name in names}
    words = [value for value in in_order.values() if value is not None]
    flags = [f"--{name} {value}" for name, value in flagged.items() if value is not None]
    example = " ".join(_ARGUMENTS[name][1] for name in names)
    flag_example = " ".join(" ".join(_ARGUMENTS[name]) for name in names)
    if words and flags:
        raise UserError(
            f"{' '.join(words)!r} is given in order and {' '.join(flags)!r} by flags; give all "
            f"in order, such as {example}, or all by flags, such as {flag_example}"
        )
    given = flagged if flags else in_order
    missing = [name for name in required if given[name] is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} missing; write for example {example}, or {flag_example}"
        )
    for name in names:
        value = given[name]
        setattr(options, name, defaults.get(name) if value is None else value)
