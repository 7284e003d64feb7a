"""Showing a page in the user's browser, where there is one to show it in."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def open_in_browser(file: Path) -> bool:
    """Open a page in a browser window, if the user can be expected to see it.

    That takes a terminal that somebody types into, on a machine with a display: not a job, a
    container or a session over SSH. A browser within the terminal would cover what was printed,
    so none is opened.

    Args:
        file: The page.

    Returns:
        Whether a browser took it.
    """
    if not (_is_interactive() and _has_display()):
        return False
    try:
        browser = webbrowser.get()
        # This class runs in the terminal; those with a window are its subclasses, or others.
        if type(browser) is webbrowser.GenericBrowser:
            return False
        return browser.open(file.absolute().as_uri())
    except (webbrowser.Error, OSError):
        return False


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _has_display() -> bool:
    if any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY")):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
