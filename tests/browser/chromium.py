"""Headless Chromium, driven over its DevTools pipe: no driver and no package is needed."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

TIMEOUT = 10.0
"""Seconds to wait for anything that is bound to come."""
REQUIRED = "CLOCKNEXT_TESTS_BROWSER"
"""With `required`, a missing browser fails the tests instead of skipping them."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


_START = """
import os, sys
_, read, write, *command = sys.argv
os.dup2(int(read), 100)
os.dup2(int(write), 101)
os.dup2(100, 3)
os.dup2(101, 4)
os.execv(command[0], command)
"""
"""Starts the browser, which reads its descriptor 3 and writes its descriptor 4."""


def executable() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One page of a browser."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._unread = bytearray()
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        """What the page said unasked: exceptions and the messages of its console."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the DevTools, and return its result."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return cast("dict[str, Any]", answer["result"])
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.events.append(answer["params"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._read, 65_536)
            assert data, "the browser has gone"
            self._unread += data
        message, _, rest = bytes(self._unread).partition(b"\0")
        self._unread = bytearray(rest)
        return cast("dict[str, Any]", json.loads(message))

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page has loaded."""
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """Evaluate JavaScript, await it, and return its value."""
        result = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a condition holds. Each look is a round trip to the browser, so this does not spin."""
        give_up_at = time.monotonic() + TIMEOUT
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < give_up_at, f"it never came to hold: {condition}"

    def texts(self, selector: str) -> list[str]:
        """Return the text of each element that matches."""
        found = self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText)"
        )
        return cast("list[str]", found)

    def click(self, selector: str) -> None:
        """Click the first element that matches."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str) -> None:
        """Press a key, as a person does."""
        code = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def resize(self, width: int, height: int = 844) -> None:
        """Give the window a size, in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        """Have the system prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        wide = self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return cast("int", wide)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the page."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(profile: Path, environment: Mapping[str, str] | None = None) -> Generator[Page, None, None]:
    """Run a browser for as long as the block lasts."""
    program = executable()
    assert program is not None
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(
        [sys.executable, "-c", _START, str(from_us), str(to_us), *command],
        pass_fds=(from_us, to_us),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(from_us)
        os.close(to_us)
        try:
            yield Page(from_browser, to_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
