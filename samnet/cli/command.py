"""What all commands share: a strict parser, log lines, and an exit code that tells what happened.

Exit codes: 0 success, 1 failure, 2 the user's input or options, 75 stopped by a signal (the same
command resumes it), 130 interrupted by the keyboard.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet import __version__
from samnet.cli.completion import complete, is_completing
from samnet.cli.help_layout import Example, HelpLayout, describe_examples
from samnet.core.errors import SamnetError
from samnet.core.signals import Interrupted, ended_by_signals, ignore_signals
from samnet.core.slurm import requeue_job
from samnet.core.streams import prepare_standard_streams

log = logging.getLogger("samnet")
STOPPED = 75  # EX_TEMPFAIL: schedulers such as LSF can be told to start a job that ends so again
_MACHINE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # of each unit of a duration


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: The name that the user types, with the `samnet_` prefix.
        summary: First paragraph of the help.
        add_arguments: Adds the options to a parser. It imports nothing heavy, so `--help` is quick.
        run: Does the work by calling another layer. Heavy imports belong in here.
        how_to_resume: Says how the work is resumed after a stop.
        examples: Command lines and what each does, for the end of the help.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
    how_to_resume: str = "the same command resumes it"
    examples: tuple[Example, ...] = ()

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Parse the options, run the command, and report errors.

        Args:
            arguments: The words after the name of the command. None for those of this process.

        Returns:
            The exit code.
        """
        prepare_standard_streams()
        parser = self.parser()
        if is_completing():
            complete(parser)
        options = parser.parse_args(arguments)
        options.arguments = list(sys.argv[1:] if arguments is None else arguments)
        _start_logging(options.verbose)
        with ended_by_signals():
            return self._run_and_report(options)

    def _run_and_report(self, options: argparse.Namespace) -> int:
        try:
            self.run(options)
            sys.stdout.flush()
        except SamnetError as error:
            return self._fail(str(error), error.exit_code)
        except Interrupted as stop:
            # SLURM ends a job that is put back into the queue with another signal.
            ignore_signals()
            how_to_resume = (
                "SLURM starts it again" if requeue_job(stop.number) else self.how_to_resume
            )
            return self._fail(f"{stop}; {how_to_resume}", STOPPED)
        except KeyboardInterrupt:
            return self._fail(f"interrupted; {self.how_to_resume}", 130)
        except BrokenPipeError:
            # The program that reads our output (head, less) has ended. Python flushes the output
            # once more at exit, which must not fail as well.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return self._fail("the output was closed before the end", 1)
        except OSError as error:
            if (file := _file_in_place_of_folder(error)) is not None:
                return self._fail(f"{file}: is a file, and has to be a folder; name another", 2)
            if error.errno not in _MACHINE_ERRORS:
                raise
            return self._fail(f"{error.filename or 'writing'}: {error.strerror}", 1)
        return 0

    def _fail(self, reason: str, exit_code: int) -> int:
        # Where nobody reads the message, the exit code still tells what happened.
        with contextlib.suppress(OSError):
            print(f"{self.name}: error: {reason}", file=sys.stderr)
        log.debug("%s", traceback.format_exc())
        return exit_code

    def parser(self) -> argparse.ArgumentParser:
        """Build the parser of the command.

        Returns:
            A parser that refuses abbreviated options.
        """
        parser = _StrictParser(prog=self.name, description=_join_lines(self.summary))
        self.add_arguments(parser)
        parser.add_argument(
            "--verbose",
            action="store_true",
            help="write more log lines, and the traceback of an error",
        )
        parser.add_argument(
            "--version",
            action="version",
            version=f"samnet {__version__}",
            help="show the version of samnet and exit",
        )
        if self.examples:
            texts = [parser.epilog or "", describe_examples(self.examples)]
            parser.epilog = "\n\n".join(filter(None, texts))
        return parser


def _join_lines(paragraph: str) -> str:
    return " ".join(paragraph.split())


def _file_in_place_of_folder(error: OSError) -> Path | None:
    """Return the file that a folder was to be made of or in, where this is what went wrong."""
    if not isinstance(error, (NotADirectoryError, FileExistsError)) or error.filename is None:
        return None
    path = Path(os.fsdecode(error.filename))
    return next((place for place in (path, *path.parents) if place.is_file()), None)


class _StrictParser(argparse.ArgumentParser):
    """Refuses abbreviations: a new option could change what an abbreviated one means.

    Parsers of subcommands are of this class, too.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpLayout, **named})

    def _get_option_tuples(self, option_string: str) -> list:
        # allow_abbrev=False covers --long options only: -n would still be accepted as -np.
        return [
            entry
            for entry in super()._get_option_tuples(option_string)
            if option_string.startswith(entry[1])
        ]


def _start_logging(verbose: bool) -> None:
    from samnet.core.progress_line import HandlerAboveBars

    logging.basicConfig(
        level=logging.WARNING,  # for other packages: their debug lines would hide ours
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[HandlerAboveBars(sys.stderr)],
        force=True,
    )
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the number of worker processes.

    Args:
        parser: The parser of a command.
    """
    parser.add_argument(
        "-np",
        "--processes",
        type=non_negative_int,
        metavar="N",
        help="worker processes, 0 to do everything in this process (default: one a core, at most "
        "8)",
    )


def add_part_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that split the cases among several jobs.

    Args:
        parser: The parser of a command.
    """
    parser.add_argument(
        "--num-parts",
        type=positive_int,
        metavar="N",
        help="split the cases into N parts (default: the tasks of the job array this runs in, "
        "else 1)",
    )
    parser.add_argument(
        "--part-id",
        type=non_negative_int,
        metavar="I",
        help="do part I (0 to N - 1) only (default: the number of the task in the job array, "
        "else 0)",
    )


def chosen_part(options: argparse.Namespace) -> tuple[int, int]:
    """Choose the part of the cases that this command works on.

    Args:
        options: The parsed options, with those of `add_part_options`.

    Returns:
        Number of parts, and number of the part from 0 up: as given, else as the job array says.
    """
    from samnet.core.job_array import array_part

    index, count = array_part()
    num_parts = options.num_parts or count or 1
    part_id = options.part_id
    if part_id is None:
        part_id = index if num_parts > 1 else 0
    if num_parts > 1:
        log.info("part %d of %d", part_id, num_parts)
    return num_parts, part_id


def positive_int(text: str) -> int:
    """Read a whole number from 1 up, for the `type` of an option.

    Args:
        text: What the user typed.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: It is no such number.
    """
    value = non_negative_int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too small, the smallest is 1")
    return value


def non_negative_int(text: str) -> int:
    """Read a whole number from 0 up, for the `type` of an option.

    Args:
        text: What the user typed.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: It is no such number.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def positive_float(text: str) -> float:
    """Read a finite number above 0, for the `type` of an option.

    Args:
        text: What the user typed.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: It is no such number.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def duration(text: str) -> float:
    """Read a duration, for the `type` of an option.

    Args:
        text: What the user typed: a number with the unit `s`, `m`, `h` or `d`, such as `30m`. A
            number without a unit is in seconds.

    Returns:
        The duration in seconds.

    Raises:
        argparse.ArgumentTypeError: It is no finite duration above 0.
    """
    number, seconds_of_unit = text, 1
    if text and text[-1] in _SECONDS:
        number, seconds_of_unit = text[:-1], _SECONDS[text[-1]]
    try:
        value = float(number) * seconds_of_unit
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration; write for example 90s, 30m, 12h"
        )
    return value
