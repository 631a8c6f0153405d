"""A headless Chromium to open pages in, spoken to through a pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 30
"""Seconds after which a browser that says nothing is taken for dead."""


class Page:
    """An open page. What went wrong in its scripts, and what it asked of a network, is noted.

    Attributes:
        problems: messages of errors and refusals, in order.
        requests: addresses of everything that it asked for.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._buffer, self._count = write, read, b"", 0
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.ready = False
        (target,) = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session = None

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the DevTools protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, file: Path) -> None:
        """Open a file, and wait until its own script is done."""
        self.call("Page.navigate", url=file.as_uri())
        self.wait("document.documentElement?.dataset.ready !== undefined")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", "?"))
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression holds."""
        end = monotonic() + PATIENCE
        while not self.run(condition):
            if monotonic() > end:
                raise TimeoutError(f"`{condition}` does not come true; problems: {self.problems}")
            sleep(0.02)

    def screenshot(self, file: Path) -> None:
        """Write what is to be seen as a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], PATIENCE)[0]:
                raise TimeoutError("the browser says nothing")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise EOFError("the browser ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        said = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(said["exceptionDetails"]["exception"].get("description", "?"))
        if message.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.problems.append(said["entry"]["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning"):
            self.problems.append(str([each.get("value", each.get("description")) for each in said["args"]]))
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page of a new browser, which ends with the block.

    Args:
        folder: for its own files.
    """
    assert EXECUTABLE is not None
    (from_us, write), (read, to_us) = os.pipe(), os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"]
    flags += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
    # The browser reads from file 3 and writes to file 4.
    wiring = f'exec "$@" 3<&{from_us} 4>&{to_us}'
    process = subprocess.Popen(
        ["bash", "-c", wiring, "bash", EXECUTABLE, *flags], pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL
    )
    os.close(from_us)
    os.close(to_us)
    try:
        yield Page(write, read)
    finally:
        os.close(write)  # it ends when nobody can speak to it any more
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(read)
