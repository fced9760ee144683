"""A headless Chromium driven over its debugging pipe (Chrome DevTools Protocol), with nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "google-chrome-stable")
PATIENCE = 60
"""Seconds after which an answer is given up."""


def found() -> str | None:
    """The installed browser."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in one browser; ends with its `with` block.

    Every request that the page makes is kept in `requests`, every error of its scripts in `errors`.
    """

    def __init__(self, *, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        path = found()
        assert path is not None
        self._folder = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        ours, theirs = os.pipe(), os.pipe()
        # the browser reads descriptor 3 and writes descriptor 4; ends above 10 cannot be overwritten by these two
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs[0], ours[1])]
        os.close(theirs[0])
        os.close(ours[1])
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={self._folder.name}",
            f"--window-size={width},{height}", "about:blank",
        ]  # fmt: skip
        self._pid = os.posix_spawn(
            path,
            [path, *options],
            dict(os.environ),
            setpgroup=0,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, ends[0], 3),
                (os.POSIX_SPAWN_DUP2, ends[1], 4),
            ],
        )
        for end in ends:
            os.close(end)
        self._in, self._out = ours[0], theirs[1]
        self._held = b""
        self._n = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.resize(width, height)
        if dark:
            self.media(dark=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and its children."""
        os.close(self._in)
        os.close(self._out)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._folder.cleanup()

    # -------------------------------------------------------------------------------- the protocol

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        self._n += 1
        mine = self._n
        message: dict[str, Any] = {"id": mine, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            came = self._next()
            if came.get("id") == mine:
                assert "error" not in came, (method, came["error"])
                return came["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            assert ready, f"the browser has said nothing for {PATIENCE} seconds"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has gone"
            self._held += more
        data, self._held = self._held.split(b"\0", 1)
        message = json.loads(data)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    # -------------------------------------------------------------------------------- what a person does

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded."""
        self.call("Page.navigate", url="about:blank")  # so that a link to the same page loads it anew
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (script, answer["exceptionDetails"])
        return answer["result"].get("value")

    def texts(self, rows: str, cells: str) -> list[list[str]]:
        """The text of some parts of each of some elements, both named by selectors."""
        return self.run(
            f"[...document.querySelectorAll({json.dumps(rows)})].map("
            f"(row) => [...row.querySelectorAll({json.dumps(cells)})].map((cell) => cell.textContent))"
        )

    def until(self, script: str) -> None:
        """Wait for an expression to become true."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"!!({script})"):
            assert time.monotonic() < end, f"never became true: {script}; errors of the page: {self.errors}"
            time.sleep(0.02)

    def key(self, name: str, text: str = "") -> None:
        """Press and release a key: "Enter", "ArrowDown", or a character as `text`."""
        codes = {
            "Enter": 13,
            "Escape": 27,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Tab": 9,
        }
        code = codes.get(name, ord(text.upper()) if text else 0)
        common: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Put text where the focus is."""
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int) -> None:
        """Another window."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )  # fmt: skip

    def media(self, *, dark: bool = False, printed: bool = False) -> None:
        """What a style asks for."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if printed else "", features=[scheme])

    def picture(self, path: Path) -> None:
        """What is seen, as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
