"""What every command has in common: a strict parser, log lines, and an exit code that tells what happened.

Exit codes: 0 success, 1 failure, 2 the user's input or options, 130 interrupted by the keyboard.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from samnet import __version__
from samnet.core.errors import SamnetError

log = logging.getLogger("samnet")


@dataclass(frozen=True)
class Command:
    """One command.

    name: as the user types it, with the `samnet_` prefix.
    summary: the first paragraph of its help.
    add_arguments: adds its options to a parser; imports nothing heavy, so that `--help` is quick.
    run: does the work by calling a station; heavy imports belong in here.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Parse, run, and return the exit code."""
        parser = self.parser()
        options = parser.parse_args(arguments)
        _start_logging(options.verbose)
        try:
            self.run(options)
        except SamnetError as error:
            print(f"{self.name}: error: {error}", file=sys.stderr)
            if options.verbose:
                log.debug("traceback", exc_info=True)
            return error.exit_code
        except KeyboardInterrupt:
            print(f"{self.name}: interrupted; run the same command again to go on", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of our output (head, less) left: nothing failed here
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return 0

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=self.name,
            description=self.summary,
            allow_abbrev=False,  # an abbreviated option today is another option tomorrow
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(parser)
        parser.add_argument("--verbose", action="store_true", help="more log lines, and the traceback of an error")
        parser.add_argument("--version", action="version", version=f"samnet {__version__}")
        return parser


def _start_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-np",
        "--processes",
        type=non_negative_int,
        metavar="N",
        help="worker processes (default: one a core, at most 8); 0 does everything in this process",
    )


def add_part_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num-parts", type=positive_int, default=1, metavar="N", help="split the cases in N parts")
    parser.add_argument("--part-id", type=non_negative_int, default=0, metavar="I", help="do part I (0 to N - 1) only")


def positive_int(text: str) -> int:
    value = non_negative_int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too small, the smallest is 1")
    return value


def non_negative_int(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def duration(text: str) -> float:
    """Seconds of a duration such as `90`, `45s`, `30m`, `12h` or `2d`; a bare number is seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write for example 90s, 30m, 12h")
    return value
