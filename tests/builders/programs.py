"""Programs of schedulers that only note their arguments."""

from __future__ import annotations

from pathlib import Path

import pytest


def install_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str = ""
) -> Path:
    """Put a program on the `PATH` that notes its arguments.

    Args:
        folder: Where to put the program and its notes.
        monkeypatch: Restores the `PATH`.
        name: The name of the program.
        script: What it does after that, in the language of `sh`.

    Returns:
        The file of its notes, with one line for each call.
    """
    program, notes = folder / "bin" / name, folder / f"{name}.notes"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n{script}\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return notes
