"""A real browser without a window, driven over WebDriver (W3C) by the standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builders.ports import free_port

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
)
_LOG_CAPABILITY = {"goog:loggingPrefs": {"browser": "ALL"}}
_SECONDS = 20
NO_BROWSER = "there is no Chromium, and it cannot be installed here"


def find_browser() -> tuple[str, str] | None:
    """Return the programs of Chromium and its driver, or None where one of them is missing."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return None if browser is None or driver is None else (browser, driver)


def install_browser() -> None:
    """Install Chromium from the packages of Debian, where this user may and the network is there.

    Failure leaves it out. Of several processes of a test run, one does it.
    """
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    import fcntl  # systems with apt-get have it

    with (Path(tempfile.gettempdir()) / "samnet_tests_browser.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if find_browser() is None and _apt_get("update"):
            _apt_get("install", "-y", "--no-install-recommends", "chromium", "chromium-driver")


def _apt_get(*words: str) -> bool:
    """Run apt-get, which gives up soon without a network; return whether it succeeded."""
    patience = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10")
    # Otherwise a mirror that cannot be reached is only a warning.
    strict = ("-o", "APT::Update::Error-Mode=any")
    try:
        process = subprocess.run(
            ["apt-get", "-q", *patience, *strict, *words],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0


class Browser:
    """A page in a browser without a window."""

    def __init__(self, address: str, session: str) -> None:
        self._session = f"{address}/session/{session}"

    def open(self, file: Path) -> None:
        """Open a file from the disk, and wait until it is loaded."""
        self._call("POST", "url", {"url": file.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self._call("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def wait_until(self, condition: str) -> None:
        """Wait until an expression of the page is true."""
        ends_at = time.monotonic() + _SECONDS
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < ends_at, f"still not true: {condition}"
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click on the first element of a CSS selector, as a mouse does."""
        x, y = self._middle_of(selector)
        press = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        move = {"type": "pointerMove", "x": x, "y": y, "duration": 0}
        self._act({"type": "pointer", "id": "mouse", "actions": [move, *press]})

    def turn_wheel(self, selector: str, pixels: int) -> None:
        """Turn the mouse wheel over an element."""
        x, y = self._middle_of(selector)
        turn = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": pixels, "duration": 0}
        self._act({"type": "wheel", "id": "wheel", "actions": [turn]})

    def press(self, key: str) -> None:
        """Press and release a key. Arrows and the like have code points of WebDriver."""
        strokes = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._act({"type": "key", "id": "keyboard", "actions": strokes})

    def messages(self) -> list[str]:
        """Return errors and warnings of the page since this was last called."""
        entries = self._call("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def resize(self, width: int, height: int) -> None:
        """Give the page a size, also one that is smaller than a window may be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str, medium: str = "") -> None:
        """Prefer `light` or `dark` colours, on a medium such as `print`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", {"media": medium, "features": features})

    def screenshot(self, file: Path) -> None:
        """Write what the page looks like, all of it, as PNG."""
        options = {"format": "png", "captureBeyondViewport": True}
        data = self.command("Page.captureScreenshot", options)["data"]
        file.write_bytes(base64.b64decode(data))

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Send a command of the DevTools protocol, and return its answer."""
        return self._call("POST", "goog/cdp/execute", {"cmd": name, "params": parameters})

    def _middle_of(self, selector: str) -> tuple[int, int]:
        place = self.run(
            "const element = document.querySelector(arguments[0]);"
            "element.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = element.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2];",
            selector,
        )
        return round(place[0]), round(place[1])

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", "actions", {"actions": [source]})

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        return _request(method, f"{self._session}/{path}" if path else self._session, content)

    def close(self) -> None:
        """End the browser."""
        self._call("DELETE", "")


def _request(method: str, url: str, content: Any = None) -> Any:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    # No proxy of the environment: the driver runs on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode(errors="replace")[:2000]) from None


@contextlib.contextmanager
def started_browser(programs: tuple[str, str], profile: Path) -> Iterator[Browser]:
    """Start a browser, and end it afterwards.

    Args:
        programs: The programs of the browser and of its driver.
        profile: An empty folder for what the browser writes.
    """
    browser, driver = programs
    port = free_port()
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        flags = [*_FLAGS, f"--user-data-dir={profile}"]
        options = {"goog:chromeOptions": {"binary": browser, "args": flags}}
        wanted = {"capabilities": {"alwaysMatch": options | _LOG_CAPABILITY}}
        session = _request("POST", f"{address}/session", wanted)["sessionId"]
        page = Browser(address, session)
        try:
            yield page
        finally:
            page.close()
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + _SECONDS
    while time.monotonic() < ends_at and process.poll() is None:
        with contextlib.suppress(OSError):
            if _request("GET", f"{address}/status")["ready"]:
                return
        time.sleep(0.05)
    raise AssertionError("chromedriver does not start")
