"""What all functions of the API take: folders, progress, worker processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from samnet.core.paths import use_folders
from samnet.core.progress import show_progress_by
from samnet.core.progress_listener import Progress
from samnet.core.worker_pool import default_processes

Folder = str | os.PathLike[str]


@contextlib.contextmanager
def api_call(
    progress: Progress | bool | None,
    raw: Folder | None = None,
    preprocessed: Folder | None = None,
    results: Folder | None = None,
) -> Iterator[None]:
    """Do the work of one call with its folders and its progress, in this thread.

    Args:
        progress: As for `samnet.core.progress.show_progress_by`.
        raw: The folder of raw data; None for what the environment variable says.
        preprocessed: The folder of prepared data; None likewise.
        results: The folder of trained models; None likewise.

    Yields:
        Nothing.
    """
    folders = (optional_path(folder) for folder in (raw, preprocessed, results))
    with use_folders(*folders), show_progress_by(progress):
        yield


def optional_path(path: Folder | None) -> Path | None:
    """Return a path, or None for None.

    Args:
        path: The path, or None.
    """
    return None if path is None else Path(path)


def chosen_processes(processes: int | None) -> int:
    """Return the number of worker processes.

    Args:
        processes: The given number, or None for the default of this machine.
    """
    return default_processes() if processes is None else processes


def fold_names(folds: Sequence[int | str] | None) -> list[str] | None:
    """Return the names of folds.

    Args:
        folds: Numbers or names of folds; None for the default.
    """
    return None if folds is None else [str(fold) for fold in folds]
