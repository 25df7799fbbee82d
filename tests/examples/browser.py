"""A headless Chromium, driven through chromedriver by the W3C WebDriver protocol: HTTP and JSON, nothing to install."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-device-scale-factor=1"]


class Browser:
    """One window."""

    def __init__(self, session: str):
        self._session = session

    def open(self, address: str) -> None:
        self._do("POST", "/url", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a JavaScript function body returns in the page."""
        return self._do("POST", "/execute/sync", script=script, args=list(arguments))

    def wait(self, condition: str, seconds: float = 120) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} is not true after {seconds} s: {self.logs()}"
            time.sleep(0.1)

    def click(self, selector: str, x: float, y: float) -> None:
        """A real click on an element, at a point given in fractions of its width and height."""
        box = self.run(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]",
            selector,
        )
        place = {"x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
        steps = [
            {"type": "pointerMove", **place},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._do("POST", "/actions", actions=[{"type": "pointer", "id": "mouse", "actions": steps}])

    def screenshot(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self._do("GET", "/screenshot"))

    def logs(self) -> list[str]:
        """What the page has complained of."""
        return [entry["message"] for entry in self._do("POST", "/se/log", type="browser")]

    def _do(self, method: str, path: str, **body: Any) -> Any:
        return request(method, self._session + path, body)


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A browser with a window of this size, closed at the end."""
    port = free_port()
    driver = subprocess.Popen([str(shutil.which("chromedriver")), f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(port)
        options = {
            "args": [*ARGUMENTS, f"--window-size={width},{height}"],
            "binary": shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser"),
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        started = request("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{address}/session/{started['sessionId']}"
        try:
            yield Browser(session)
        finally:
            request("DELETE", session, {})
    finally:
        driver.terminate()
        driver.wait(timeout=20)


def request(method: str, address: str, body: dict[str, Any]) -> Any:
    data = json.dumps(body).encode() if method == "POST" else None
    call = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(call, timeout=180) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from None


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("chromedriver does not answer")
