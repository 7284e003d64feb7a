"""What every command has in common: a strict parser, log lines, and an exit code that tells what happened.

Exit codes: 0 success, 1 failure, 2 the user's input or options, 75 stopped by a signal (the same command goes on),
130 interrupted by the keyboard.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from samnet import __version__
from samnet.core.errors import SamnetError
from samnet.core.signals import Interrupted, ended_by_signals, ignore_signals
from samnet.core.slurm import requeue_job

log = logging.getLogger("samnet")
STOPPED = 75  # EX_TEMPFAIL: schedulers such as LSF can be told to start a job that ends so again
_MACHINE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Command:
    """One command.

    name: as the user types it, with the `samnet_` prefix.
    summary: the first paragraph of its help.
    add_arguments: adds its options to a parser; imports nothing heavy, so that `--help` is quick.
    run: does the work by calling a station; heavy imports belong in here.
    how_to_resume: how the work goes on after it was stopped.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
    how_to_resume: str = "the same command goes on"

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Parse, run, and return the exit code."""
        parser = self.parser()
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
            ignore_signals()  # being put back into the queue ends this job with another one
            how_to_resume = (
                "SLURM starts it again" if requeue_job(stop.number) else self.how_to_resume
            )
            return self._fail(f"{stop}; {how_to_resume}", STOPPED)
        except KeyboardInterrupt:
            return self._fail(f"interrupted; {self.how_to_resume}", 130)
        except BrokenPipeError:
            # The reader of our output (head, less) left. Without a place to go, Python's own flush would fail as well.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return self._fail("the output was closed before the end", 1)
        except OSError as error:
            if error.errno not in _MACHINE_ERRORS:
                raise
            return self._fail(f"{error.filename or 'writing'}: {error.strerror}", 1)
        return 0

    def _fail(self, reason: str, exit_code: int) -> int:
        print(f"{self.name}: error: {reason}", file=sys.stderr)
        log.debug("%s", traceback.format_exc())
        return exit_code

    def parser(self) -> argparse.ArgumentParser:
        parser = _StrictParser(
            prog=self.name,
            description=self.summary,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(parser)
        parser.add_argument(
            "--verbose", action="store_true", help="more log lines, and the traceback of an error"
        )
        parser.add_argument("--version", action="version", version=f"samnet {__version__}")
        return parser


class _StrictParser(argparse.ArgumentParser):
    """Refuses every abbreviation: an abbreviated option today is another option tomorrow."""

    def _get_option_tuples(self, option_string: str) -> list:
        # allow_abbrev=False covers --long options only: -n would still be taken for -np.
        return [
            entry
            for entry in super()._get_option_tuples(option_string)
            if option_string.startswith(entry[1])
        ]


def _start_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.WARNING,  # of other packages; their debug lines would bury ours
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
    parser.add_argument(
        "--num-parts",
        type=positive_int,
        metavar="N",
        help="split the cases in N parts (default: the tasks of the job array this runs in, else 1)",
    )
    parser.add_argument(
        "--part-id",
        type=non_negative_int,
        metavar="I",
        help="do part I (0 to N - 1) only (default: the number of the task in the job array, else 0)",
    )


def chosen_part(options: argparse.Namespace) -> tuple[int, int]:
    """`--num-parts` and `--part-id`, or what the scheduler's job array says in their place."""
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
    value = non_negative_int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too small, the smallest is 1")
    return value


def non_negative_int(text: str) -> int:
    if not text.isdecimal():
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
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration; write for example 90s, 30m, 12h"
        )
    return value
