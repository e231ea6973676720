"""A real browser, where there is one."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium, driven by playwright: the system's, or the one that playwright has. Skips with what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[clients]'")
    with playwright.sync_playwright() as driver:
        path = next(filter(None, map(shutil.which, _NAMES)), None)
        try:
            # A test may run as root, for whom Chromium has no sandbox.
            opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium ({str(error).splitlines()[0][:100]})")
        yield opened
        opened.close()


def until(is_so: Callable[[], object]) -> None:
    """Waits for it. Playwright's own way of waiting evaluates text, which the page forbids."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Person:
    """Somebody at the page. `page`: playwright's."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)
        page.on("request", self._asked)

    def _note(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # a refusal that a test is about
            self.errors.append(message.text)

    def _asked(self, request: Any) -> None:
        self.addresses.append(request.url)
        if request.url.endswith("/chat/completions"):
            self.asked.append(request.post_data_json)

    def go(self) -> None:
        self.page.goto(self.url)
        until(lambda: self.page.locator("#server-line").inner_text() != "…")

    def say(self, text: str, *, waits: bool = True) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")
        if waits:
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written."""
        self.page.get_by_role("button", name="Send", exact=True).wait_for()

    def messages(self, role: str = "assistant") -> Any:
        return self.page.locator(f"article.{role}")

    def texts(self, role: str = "assistant") -> list[str]:
        return [text.strip() for text in self.messages(role).locator(".text").all_inner_texts()]

    def press(self, name: str, within: Any = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).click()
