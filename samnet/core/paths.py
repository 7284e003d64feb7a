"""The three folders of all data sets, and how a data set is named."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from samnet.core.errors import UserError

_DATASET_FOLDER = re.compile(r"^Dataset(\d{3,})_(.+)$")
# The folders that a caller from Python has given, by the names of the arguments. Each thread has
# its own, unlike environment variables.
_given: ContextVar[Mapping[str, Path]] = ContextVar("_given", default=MappingProxyType({}))


@dataclass(frozen=True)
class _DataFolder:
    """One of the three folders, by what may name it.

    `argument` is its name in `use_folders`, which comes before all else; `variables` are those of
    the environment, in the order in which they are read; `default` holds where none is set.
    """

    argument: str
    variables: tuple[str, ...]
    default: str

    @property
    def variable(self) -> str | None:
        """The variable that names the folder; None where none is set."""
        return next((name for name in self.variables if os.environ.get(name)), None)

    def _path_and_origin(self) -> tuple[Path, str]:
        given = _given.get().get(self.argument)
        if given is not None:
            return given, f"{self.argument} is {str(given)!r}"
        if self.variable is None:
            return Path(self.default), f"{self.variables[0]} is not set, so {self.default}"
        path = Path(os.environ[self.variable])
        return path, f"{self.variable} is {str(path)!r}"

    @property
    def path(self) -> Path:
        """The folder, which need not exist."""
        path, _ = self._path_and_origin()
        if path.exists() and not path.is_dir():
            raise UserError(f"{self}. Give the path of a folder")
        return path

    def __str__(self) -> str:
        """Return what says where the folder is, and what is wrong with it."""
        path, origin = self._path_and_origin()
        if path.is_dir():
            return origin
        return f"{origin}, which is {'no folder' if path.exists() else 'not there'}"


_RAW = _DataFolder("raw", ("samnet_raw", "nnUNet_raw"), "samnet_data/raw")
_PREPROCESSED = _DataFolder("preprocessed", ("samnet_preprocessed",), "samnet_data/preprocessed")
_RESULTS = _DataFolder("results", ("samnet_results",), "samnet_data/results")


@contextlib.contextmanager
def use_folders(
    raw: str | Path | None = None,
    preprocessed: str | Path | None = None,
    results: str | Path | None = None,
) -> Iterator[None]:
    """Use these folders within a block, in this thread, whatever the environment variables say.

    Args:
        raw: The folder of raw data; None for no change.
        preprocessed: The folder of prepared data; None for no change.
        results: The folder of trained models; None for no change.

    Yields:
        Nothing.
    """
    folders = {"raw": raw, "preprocessed": preprocessed, "results": results}
    given = {name: Path(path) for name, path in folders.items() if path is not None}
    token = _given.set({**_given.get(), **given})
    try:
        yield
    finally:
        _given.reset(token)


def raw_folder() -> Path:
    """Return the folder of raw data: `samnet_raw`, else `nnUNet_raw`, else `./samnet_data/raw`.

    Raises:
        UserError: The variable names a file.
    """
    return _RAW.path


def preprocessed_folder() -> Path:
    """Return the folder of prepared data: `samnet_preprocessed`, else one below `./samnet_data`.

    Raises:
        UserError: The variable names a file.
    """
    return _PREPROCESSED.path


def results_folder() -> Path:
    """Return the folder of trained models: `samnet_results`, else one below `./samnet_data`.

    Raises:
        UserError: The variable names a file.
    """
    return _RESULTS.path


def describe_raw_folder() -> str:
    """Return which variable names the folder of raw data, and what is wrong with it."""
    return str(_RAW)


def describe_preprocessed_folder() -> str:
    """Return which variable names the folder of prepared data, and what is wrong with it."""
    return str(_PREPROCESSED)


def describe_results_folder() -> str:
    """Return which variable names the folder of trained models, and what is wrong with it."""
    return str(_RESULTS)


def find_dataset_name(identifier: str | int) -> str:
    """Find the folder name of a data set in the three folders.

    Args:
        identifier: An id such as `8` or `008`, or a full name.

    Returns:
        The name, `DatasetXXX_Name`.

    Raises:
        UserError: There is no such data set, or several with this id; the message lists what is
            there.
    """
    text = str(identifier)
    known = known_dataset_names()
    if text in known:
        return text
    if text.isdecimal():
        matches = [name for name in known if dataset_number(name) == int(text)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            listing = ", ".join(matches)
            raise UserError(
                f"data set id {text} is ambiguous: {listing}. Give each its own number."
            )
    listing = ", ".join(known) if known else "none"
    raise UserError(
        f"no data set {text!r} in {raw_folder()} (known: {listing}). Put it there as "
        "DatasetXXX_Name, or set the environment variable samnet_raw to the folder that holds it. "
        f"Now {_RAW}; {_PREPROCESSED}; {_RESULTS}."
    )


def known_dataset_names() -> list[str]:
    """List the data sets that have at least one of the three folders.

    Returns:
        Their names, sorted.

    Raises:
        UserError: A variable names a file.
    """
    names: set[str] = set()
    for folder in (raw_folder(), preprocessed_folder(), results_folder()):
        if folder.is_dir():
            entries = [entry.name for entry in folder.iterdir() if entry.is_dir()]
            names.update(filter(_DATASET_FOLDER.match, entries))
    return sorted(names)


def dataset_number(name: str) -> int:
    """Return the number of a data set.

    Args:
        name: Its folder name, `DatasetXXX_Name`.

    Returns:
        The number `XXX`.

    Raises:
        UserError: The name has another form.
    """
    match = _DATASET_FOLDER.match(name)
    if match is None:
        raise UserError(
            f"{name!r} is not a data set name: expected DatasetXXX_Name, for example "
            "Dataset008_Liver"
        )
    return int(match.group(1))
