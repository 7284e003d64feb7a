"""Scripts without `if __name__ == "__main__":`, which every worker process would run once more."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

# Exit code of a worker process that has found the guard missing; Python ends with no such code.
EXIT_CODE = 79
_REMEDY = (
    'put what it does under `if __name__ == "__main__":`, because each worker process imports the '
    "script. Or use no worker processes: processes=0, and workers=0 for training"
)


def end_unguarded_import() -> None:
    """End this process where it is a worker process that still imports the user's script.

    The script does its work while it is imported, so it has no guard. The work is not to be done
    twice, and could wait for a lock that the parent process holds. In any other process nothing
    happens.
    """
    # The attribute by which Python itself notices that such a process starts processes.
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    print(f"samnet: error: {missing_guard()}", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)  # an exception could be caught by the script


def missing_guard() -> str:
    """Return what the user is told about a script without guard.

    Returns:
        The name of the script, the finding and the remedy.
    """
    script = sys.argv[0] if sys.argv and Path(sys.argv[0]).is_file() else "this script"
    return f"{script}: does its work while it is imported; {_REMEDY}"
