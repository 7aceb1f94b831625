"""A real headless Chromium, driven through its own chromedriver by the W3C WebDriver protocol.

Just what the tests need, over plain HTTP: open a page, wait for a condition, click, take a
screenshot. https://www.w3.org/TR/webdriver2/
"""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)",
)

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1500,1150",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One browser window."""

    def __init__(self, driver: str, session: str) -> None:
        self._base = f"{driver}/session/{session}"

    def open(self, address: str) -> None:
        """Go to a page and wait until it has loaded."""
        _call("POST", f"{self._base}/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; the value of its ``return``."""
        body = {"script": script, "args": list(arguments)}
        return _call("POST", f"{self._base}/execute/sync", body)

    def text(self) -> str:
        """What the page shows as text."""
        return str(self.run("return document.body.innerText"))

    def wait(self, script: str, *arguments: Any, seconds: float = 30) -> Any:
        """Wait until JavaScript returns something true; that value.

        Raises:
            AssertionError: It stayed false; the message has the page's text.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if value := self.run(script, *arguments):
                    return value
            except WebDriverError as error:
                if "stale element" not in str(error):
                    raise
            time.sleep(0.1)
        raise AssertionError(f"never true: {script} {arguments}\nThe page:\n{self.text()[:3000]}")

    def wait_for_text(self, *texts: str, seconds: float = 30) -> None:
        """Wait until the page shows all ``texts``."""
        for text in texts:
            self.wait(
                "return document.body.innerText.includes(arguments[0])", text, seconds=seconds
            )

    def click(self, xpath: str, seconds: float = 30) -> None:
        """Wait for the first visible element of an XPath, and click it as a mouse does."""
        found = self.wait(
            """const nodes = document.evaluate(arguments[0], document, null,
                   XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
               for (let i = 0; i < nodes.snapshotLength; i++) {
                   const node = nodes.snapshotItem(i);
                   if (node.getClientRects().length) {
                       node.scrollIntoView({block: 'center'});
                       return node;
                   }
               }
               return null""",
            xpath,
            seconds=seconds,
        )
        _call("POST", f"{self._base}/element/{found[_ELEMENT]}/click", {})

    def click_text(self, text: str) -> None:
        """Click the first visible link, tab or button that says exactly ``text``."""
        self.click(
            "//*[self::a or self::button or self::label"
            " or @role='tab' or @role='button' or @role='radio']"
            f"[normalize-space(.)={json.dumps(text)}]"
        )

    def chrome(self, command: str, **settings: Any) -> Any:
        """Send Chromium's own command, such as ``Emulation.setEmulatedMedia``."""
        body = {"cmd": command, "params": settings}
        return _call("POST", f"{self._base}/goog/cdp/execute", body)

    def screenshot(self, path: Path) -> Path:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(_call("GET", f"{self._base}/screenshot")))
        return path


class WebDriverError(Exception):
    """The driver refused a command."""


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser with a fresh profile in ``folder``; it ends with the block."""
    assert CHROMIUM is not None
    assert DRIVER is not None
    log = folder / "chromedriver.log"
    with log.open("wb") as output:
        process = subprocess.Popen([DRIVER, "--port=0"], stdout=output, stderr=subprocess.STDOUT)
    session = driver = ""
    try:
        driver = f"http://127.0.0.1:{_port(process, log)}"
        options = {
            "binary": CHROMIUM,
            "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"],
        }
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = _call("POST", f"{driver}/session", wanted, seconds=90)["sessionId"]
        yield Browser(driver, session)
    finally:
        if session:
            _call("DELETE", f"{driver}/session/{session}")
        process.terminate()
        process.wait(15)


def printed(page: Path, folder: Path) -> tuple[str, str]:
    """Open a page in a browser of its own; its DOM after all scripts, and what the console says."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    profile = f"--user-data-dir={folder / 'console'}"
    done = subprocess.run(
        [str(CHROMIUM), *flags, profile, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def _port(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"started successfully on port (\d+)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"chromedriver did not start:\n{log.read_text()[-2000:]}")


def _call(method: str, address: str, body: Any = None, seconds: float = 60) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            told = json.load(error)["value"]
        raise WebDriverError(f"{told['error']}: {told['message']}") from None
