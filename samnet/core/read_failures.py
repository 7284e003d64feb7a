"""Failures of the machine to read a file, which are no damage of the file."""

from __future__ import annotations

import errno
from pathlib import Path

from samnet.core.errors import SamnetError

# Errors that tell of the file: its path, or a wrong offset within a damaged one.
_OF_THE_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EOVERFLOW)
# Words of libraries in C++, which have no error of their own for it.
_OUT_OF_MEMORY = ("bad_alloc", "allocate memory", "not enough memory", "out of memory")


class ReadFailure(SamnetError):
    """The machine could not read a file that may be whole: memory, disk or network failed."""


def raise_failure_of_machine(file: Path, error: Exception) -> None:
    """Raise an error where the machine failed and not the file; otherwise do nothing.

    Call it first where an exception of any kind would be reported as a damaged file.

    Args:
        file: The file that was read.
        error: What the reader raised. An `OSError` with a number comes from the operating system,
            one without from a reader that does not understand the content.

    Raises:
        ReadFailure: The memory ran out, or the operating system reports a failure.
    """
    if _is_out_of_memory(error):
        raise ReadFailure(
            f"{file}: cannot be read, because the memory ran out ({str(error) or 'MemoryError'}). "
            "Run the same command again where there is more, or with fewer worker processes"
        ) from error
    if isinstance(error, OSError) and error.errno and error.errno not in _OF_THE_FILE:
        raise ReadFailure(
            f"{file}: cannot be read, because the operating system reports "
            f"{error.strerror or error} (error {errno.errorcode.get(error.errno, error.errno)}). "
            "Check permissions, disk and network; the file itself may be whole"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
