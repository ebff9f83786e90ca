"""A headless Chromium, driven over a pipe with the standard library alone.

Protocol: https://chromedevtools.github.io/devtools-protocol/ over ``--remote-debugging-pipe``. Each
message is JSON with a null byte behind it; the browser reads descriptor 3 and writes descriptor 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = "run: apt-get install chromium"
LIMIT_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_RENUMBER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Gives the pipes the numbers that the browser expects."""


def executable() -> str | None:
    """Return the browser's program; ``None`` where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page, with what it loaded and what it complained of."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._pipe.call(method, parameters, self._session)

    def look(self, width: int, height: int, *, dark: bool) -> None:
        """Take a size in CSS pixels, and a color scheme."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media="screen", features=[scheme])

    def open(self, path: Path) -> None:
        """Load a file, and wait for it."""
        self._pipe.events.clear()
        self._call("Page.navigate", url=path.resolve().as_uri())
        self._pipe.wait("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript gives."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key that is named as its code is (``Tab``, ``Enter``)."""
        code = {"Tab": 9, "Enter": 13}[key]
        both = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", **both, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **both)

    def heard(self) -> list[tuple[str, str]]:
        """Return role and name of all that assistive technology is told of."""
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in self._call("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"]
        ]

    def shoot(self, path: Path) -> None:
        """Write a picture of the whole page as PNG."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        made = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(made["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self._pipe.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    @property
    def complaints(self) -> list[str]:
        """What stands in the console, and exceptions."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"]) for e in self._pipe.events if e["method"] in kinds]


class Pipe:
    """Calls and events of one browser."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(
        self, method: str, parameters: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """Return the result of a call."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT_S
        while True:
            got = self._next(deadline, method)
            if got.get("id") == self._number:
                assert "error" not in got, (method, got)
                result: dict[str, Any] = got["result"]
                return result

    def wait(self, method: str) -> None:
        """Wait until an event was seen."""
        deadline = time.monotonic() + LIMIT_S
        while not any(event["method"] == method for event in self.events):
            self._next(deadline, method)

    def _next(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            ready = select.select([self._reading], [], [], max(left, 0.0))[0]
            assert ready, f"no answer to {what} within {LIMIT_S:.0f} s"
            read = os.read(self._reading, 1 << 20)
            assert read, f"the browser ended before it answered {what}"
            self._rest += read
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if "id" not in message:
            self.events.append(message)
        return message


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Tab]:
    """Start a browser with a profile in ``folder``, and end it with all of its processes."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _RENUMBER, str(theirs_in), str(theirs_out)),
                program,
                *_FLAGS,
                f"--user-data-dir={folder / 'profile'}",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        pipe = Pipe(ours_in, ours_out)
        yield Tab(pipe)
        pipe.call("Browser.close", {})
    finally:
        os.close(ours_out)
        os.close(ours_in)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
