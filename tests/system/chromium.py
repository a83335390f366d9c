"""A headless Chromium for tests, from the distribution's own packages, spoken to by the WebDriver protocol.

The few commands that a docs page needs are plain HTTP (https://www.w3.org/TR/webdriver2/), so no client library is.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

STARTS_WITHIN_S = 60  # two cores that have other work too; 2 s on idle ones
FOUND_WITHIN_S = 30
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which the protocol puts an element's id
_STARTED = re.compile(r"started successfully on port (\d+)")
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves this machine, whatever a page asks
)


class ChromiumMissing(Exception):
    """The browser or its driver is not installed."""


class NotFound(Exception):
    """The page has no such element, or none that can be seen."""


@dataclass(frozen=True)
class Element:
    """One element of the page that is open."""

    browser: Browser
    id: str

    @property
    def text(self) -> str:
        """The text that a reader sees."""
        return str(self.browser.ask("GET", f"/element/{self.id}/text"))

    @property
    def value(self) -> str:
        """What a field holds."""
        return str(self.browser.run("return arguments[0].value", self))

    def click(self) -> None:
        """Bring the element into the middle of the window, where nothing covers it, and click it."""
        self.browser.scroll_to(self)
        self.browser.ask("POST", f"/element/{self.id}/click", {})

    def type(self, text: str) -> None:
        """Type into a field that was emptied; for a file field `text` is the file's path."""
        if self.browser.run("return arguments[0].type", self) != "file":
            self.browser.ask("POST", f"/element/{self.id}/clear", {})
        self.browser.ask("POST", f"/element/{self.id}/value", {"text": text})


@dataclass(frozen=True)
class Browser:
    """A window with one page; elements are named by XPath."""

    session: httpx2.Client

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a WebDriver command and return its value. Raises NotFound, or RuntimeError with the driver's words."""
        answer = self.session.request(method, path, json=body)
        value = answer.json()["value"]
        if answer.is_success:
            return value
        if value["error"] == "no such element":
            raise NotFound(value["message"])
        raise RuntimeError(f"{value['error']}: {value['message']}")

    def open(self, url: str) -> None:
        """Load a page and return when it has loaded."""
        self.ask("POST", "/url", {"url": url})

    def find(self, xpath: str, within_s: float = FOUND_WITHIN_S) -> Element:
        """Return the first visible element, waiting for it. Raises NotFound with the page's text."""
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(NotFound):
                element = Element(self, self.ask("POST", "/element", {"using": "xpath", "value": xpath})[_ELEMENT])
                if self.ask("GET", f"/element/{element.id}/displayed"):
                    return element
            if time.monotonic() > deadline:
                raise NotFound(f"{xpath} is not in {self.run('return document.body.innerText')}")
            time.sleep(0.1)

    def run(self, script: str, *arguments: Element) -> Any:
        """Run JavaScript in the page and return what it returns."""
        sent = [{_ELEMENT: element.id} for element in arguments]
        return self.ask("POST", "/execute/sync", {"script": script, "args": sent})

    def scroll_to(self, element: Element, block: str = "center") -> None:
        """Scroll so that the element stands at `block`: start, center or end of the window."""
        self.run(f"arguments[0].scrollIntoView({{block: '{block}', behavior: 'instant'}})", element)

    def requested(self) -> list[str]:
        """Return the addresses that pages have asked for since the last call, whether or not anybody answered.

        What a page's own policy forbade is left out: the browser never tried it.
        """
        entries = self.ask("POST", "/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [one["params"] for one in events if one["method"] == "Network.requestWillBeSent"]
        failed = [one["params"] for one in events if one["method"] == "Network.loadingFailed"]
        forbidden = {one["requestId"] for one in failed if one.get("blockedReason") == "csp"}
        return [one["request"]["url"] for one in sent if one["requestId"] not in forbidden]

    def screenshot(self) -> bytes:
        """Return what the window shows, as PNG."""
        return base64.b64decode(self.ask("GET", "/screenshot"))


@contextlib.contextmanager
def chromium(folder: Path, width: int, height: int) -> Iterator[Browser]:
    """Yield a new browser with an empty profile in `folder`; it ends with the block. Raises ChromiumMissing."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise ChromiumMissing("Tests marked `system` need Chromium: apt-get install chromium chromium-driver")
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [driver, "--port=0"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            port = _port(process, folder / "output")
            wanted = _capabilities(browser, folder / "profile", width, height)
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=STARTS_WITHIN_S) as client:
                answer = client.post("/session", json=wanted)
                assert answer.is_success, answer.text
                address = f"{client.base_url}/session/{answer.json()['value']['sessionId']}"
            with httpx2.Client(base_url=address, timeout=STARTS_WITHIN_S) as session:
                try:
                    yield Browser(session)
                finally:
                    session.delete(address)
        finally:
            # The driver's own group: whatever the session left of the browser ends with it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _capabilities(browser: str, profile: Path, width: int, height: int) -> dict[str, Any]:
    arguments = [*_ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    always = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": browser, "args": arguments},
        "goog:loggingPrefs": {"performance": "ALL"},
    }
    return {"capabilities": {"alwaysMatch": always}}


def _port(driver: subprocess.Popen[bytes], output: Path) -> int:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while (started := _STARTED.search(output.read_text())) is None:
        if driver.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"chromedriver did not start: {output.read_text()}")
        time.sleep(0.05)
    return int(started[1])
