"""A real browser, where there is one: playwright, and the Chromium that NEXTN_TEST_CHROMIUM names,
that is on the PATH, or that playwright has downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_server import Script, running, scripted_app

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A headless Chromium, for the tests of this folder only.

    While it is there, playwright has an event loop in this thread, and `asyncio.run` refuses.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    found = os.environ.get("NEXTN_TEST_CHROMIUM") or next(
        filter(None, map(shutil.which, _NAMES)), None
    )
    with playwright.sync_playwright() as started:
        path = found or started.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("there is no Chromium")
        # Its sandbox needs rights that containers do not have; it sees pages of this test only.
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(page: Any, condition: str) -> None:
    """Wait until a JavaScript expression is true; the policy forbids playwright's own way."""
    for _ in range(3000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


class Watched:
    """A page, and what it should not have done.

    Attributes:
        page: playwright's.
        errors: exceptions, and complaints such as those of the content security policy.
        foreign: addresses of other hosts that it asked for.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(90_000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("request", lambda request: self._asked(request.url, url))
        self.page.goto(url)
        until(self.page, "document.activeElement.id === 'prompt'")

    def _heard(self, message: Any) -> None:
        # An answer of the server that is an error is no error of the page.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _asked(self, asked: str, url: str) -> None:
        if not asked.startswith((url, "blob:", "data:")):
            self.foreign.append(asked)


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens the page of a server in a fresh profile; at the end, nothing may have gone wrong."""
    with ExitStack() as undo:
        watched: list[Watched] = []

        def open_(url: str, **settings: Any) -> Any:
            context = browser.new_context(**settings)
            undo.callback(context.close)
            watched.append(Watched(context, url))
            return watched[-1].page

        yield open_
        for one in watched:
            assert one.errors == []
            assert one.foreign == []


@pytest.fixture
def script() -> Script:
    """What the scripted server does."""
    return Script()


@pytest.fixture
def url(browser: Any, script: Script) -> Iterator[str]:
    """The address of a server that follows the script."""
    with running(scripted_app(script)) as address:
        yield address
