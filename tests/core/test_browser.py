"""A page is opened only where somebody can see it."""

from __future__ import annotations

import io
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import pytest

from samnet.core.browser import open_in_browser


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class WindowBrowser(webbrowser.BaseBrowser):
    """Notes what it is to open, and what it runs on."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.process = SimpleNamespace(platform="linux", stdin=Terminal(), stdout=Terminal())

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.opened.append(url)
        return True


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> WindowBrowser:
    """A browser with a window, on a desktop with a terminal."""
    found = WindowBrowser()
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    monkeypatch.setattr("samnet.core.browser.sys", found.process)
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_page_is_opened_on_a_desktop(browser: WindowBrowser, tmp_path: Path) -> None:
    page = tmp_path / "a page.html"
    assert open_in_browser(page)
    assert browser.opened == [page.as_uri()]
    assert "%20" in page.as_uri()


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_no_page_is_opened_without_a_terminal(
    browser: WindowBrowser, tmp_path: Path, stream: str
) -> None:
    setattr(browser.process, stream, io.StringIO())
    assert not open_in_browser(tmp_path / "page.html")
    assert browser.opened == []


def test_no_page_is_opened_without_a_display(
    browser: WindowBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY")
    assert not open_in_browser(tmp_path / "page.html")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert open_in_browser(tmp_path / "page.html")


def test_no_page_is_opened_over_ssh(
    browser: WindowBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22")
    assert not open_in_browser(tmp_path / "page.html")
    assert browser.opened == []


def test_no_browser_is_started_that_runs_in_the_terminal(
    browser: WindowBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen", lambda *words, **named: started.append(words))
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("lynx"))
    assert not open_in_browser(tmp_path / "page.html")
    assert started == []


def test_missing_browser_is_no_error(
    browser: WindowBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none() -> webbrowser.BaseBrowser:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", find_none)
    assert not open_in_browser(tmp_path / "page.html")
