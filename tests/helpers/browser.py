"""A real browser, headless, driven over its DevTools protocol through two pipes: no driver, no websocket, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The browser reads file descriptor 3 and writes 4; the pipes' own numbers may be among these two.
_AS_3_AND_4 = """
import os, sys
high = [os.dup(int(number)) for number in sys.argv[1:3]]
while min(high) < 5:
    high = [os.dup(number) for number in high]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
WHY_NOT = "no browser: neither chromium nor google-chrome is installed"


class Browser:
    """One page. `width` and `height` are CSS pixels, also below what a desktop window may shrink to."""

    def __init__(self, profile: Path, *, width: int = 1440, height: int = 900) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self._buffer, self._number = b"", 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        assert EXECUTABLE
        log = (profile.parent / f"{profile.name}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _AS_3_AND_4, str(to_browser), str(from_browser), EXECUTABLE,
             "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        log.close()
        os.close(to_browser)
        os.close(from_browser)
        self._session: str | None = None
        try:
            self._attach()
        except AssertionError:
            self.close()
            raise
        self.resize(width, height)

    def _attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser: it goes when its pipe does."""
        os.close(self._out)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._in)

    def resize(self, width: int, height: int, *, dark: bool = False, calm: bool = False) -> None:
        """Set the size of the page, and whether its reader prefers dark pages, and little motion."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])

    def open(self, url: str) -> None:
        """Go to a page; `until` waits for what it shows."""
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The JSON value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def in_frames(self, script: str) -> list[Any]:
        """The value of an expression in each document that the page embeds as text, in no particular order.

        Such a document has a process of its own, and answers also where its own scripts may not run.
        """
        page, values = self._session, []
        try:
            self._session = None
            for target in self.call("Target.getTargets")["targetInfos"]:
                if (target["type"], target["url"]) == ("iframe", "about:srcdoc"):
                    self._session = None
                    frame = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
                    self._session = frame["sessionId"]
                    values.append(self.evaluate(script))
        finally:
            self._session = page
        return values

    def until(self, script: str, *, timeout_seconds: float = 60.0) -> Any:
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + timeout_seconds
        # While a page is being replaced, there may be no document to ask.
        guarded = f"(() => {{ try {{ return {script} }} catch {{ return null }} }})()"
        while not (value := self.evaluate(guarded)):
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {script}\n{self.evaluate('document.body.innerText')[:2000]}")
            time.sleep(0.1)
        return value

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key on what has the focus: a named one, a digit or the space bar."""
        named = {"PageUp": 33, "PageDown": 34, "End": 35, "Home": 36}
        named |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
        code = named.get(key) or ord(key)
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                modifiers=8 if shift else 0,
            )

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse, after it has been scrolled into the window."""
        script = f"""(() => {{ const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = element.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""
        x, y = self.evaluate(script)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def move(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Write a PNG of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come in between are looked at for errors."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._observe(answer)

    def _observe(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(event["params"]["exceptionDetails"]["exception"].get("description", "?"))
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"]["text"])
        if event.get("method") == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if not url.startswith("data:"):  # what is in the page already
                self.requests.append(url)

    def _receive(self, *, timeout_seconds: float = 90.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_seconds
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._in, 1 << 20) if readable else b""
            assert data, f"the browser {'fell silent' if not readable else 'ended'}"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)
