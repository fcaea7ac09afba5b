"""Writes docs/page.png: the server's page with an answer of the default model and of its head.

Needs playwright, and a Chromium on the PATH or one that playwright has downloaded. Arguments are
those of `nextn serve`; without any, smollm2 is served. Run it on a machine that does nothing else:
the picture shows real times.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

PICTURE = Path(__file__).with_name("page.png")
PROMPT = "Write a Python class Point with x and y, with add, sub, mul and repr methods."
SETTINGS = (
    '{"temperature": 0, "max_tokens": 160, "origins": true, "compare": true, "theme": "light"}'
)
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 300.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str) -> None:
    """Wait until the model is loaded."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urlopen(f"{url}health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise SystemExit("the server is not ready")


def draw(page: Page, url: str) -> None:
    """Ask, wait for both answers, and take the picture."""
    page.goto(url)
    page.evaluate("(text) => localStorage.setItem('nextn.settings', text)", SETTINGS)
    for _ in range(2):  # the first conversation warms the server up, and is not kept
        page.evaluate("Object.keys(localStorage).filter((k) => k.startsWith('nextn.chat.'))"
                      ".forEach((k) => localStorage.removeItem(k))")  # fmt: skip
        page.reload()
        page.wait_for_selector("#model option", state="attached")
        page.fill("#prompt", PROMPT)
        page.keyboard.press("Enter")
        page.wait_for_selector("#stop:not([hidden])")
        page.wait_for_selector("#send:not([hidden])", timeout=1e3 * PATIENCE)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.getElementById('scroller').scrollTop = 0")
    page.wait_for_timeout(300)
    page.screenshot(path=PICTURE)


def main() -> None:
    """Serve, draw and end."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "nextn.cli", "serve", *sys.argv[1:], "--port", str(port)]
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_until_ready(url)
        with sync_playwright() as playwright:
            found = next(filter(None, map(shutil.which, CHROMIUM)), None)
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            draw(browser.new_page(viewport={"width": 1440, "height": 860}), url)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
