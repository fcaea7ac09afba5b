from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from nextn.server.page import page_routes


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()))


def test_everything_that_the_page_names_is_served(client: TestClient) -> None:
    html = client.get("/")
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    names = set(re.findall(r'(?:src|href)="page/([^"]+)"', html.text))
    assert {"main.js", "theme.js", "base.css", "icon.svg"} <= names
    seen: set[str] = set()
    while names - seen:
        name = (names - seen).pop()
        seen.add(name)
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200, name
        if name.endswith(".js"):
            assert answer.headers["content-type"].startswith("text/javascript")
            names |= set(re.findall(r'from "\./([^"]+)"', answer.text))
    assert len(seen) > 10


def test_nothing_inline_runs_and_nothing_comes_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/page/main.js", "/page/base.css"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    html = client.get("/").text
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", html)
    assert "http://" not in html
    assert "https://" not in html


def test_an_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/main.js")
    again = client.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/page/main.js", headers={"If-None-Match": '"old"'}).status_code == 200
    assert client.head("/").status_code == 200


@pytest.mark.parametrize(
    "name", ["nothing.js", "__init__.py", "..%2f__init__.py", "%2e%2e/__init__.py", "static"]
)
def test_only_files_of_the_page_are_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    values = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_all_text_has_enough_contrast(client: TestClient, theme: str) -> None:
    css = client.get("/page/base.css").text
    block = css[css.index(theme) :].split("}")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    pairs = [
        *((text, ground) for text in ("text", "muted") for ground in ("background", "surface")),
        *((text, "sunken") for text in ("text", "muted", "keyword", "string", "number", "comment")),
        *(("text", f"{origin}-soft") for origin in ("head", "suffix", "grammar", "accent")),
        ("muted", "raised"),
        ("accent", "background"),
        ("accent", "accent-soft"),
        ("accent-text", "accent"),
        ("danger", "danger-soft"),
        ("danger", "surface"),
    ]
    for text, ground in pairs:
        light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
    for line in ("head", "suffix", "grammar", "border-strong"):
        light, dark = sorted(
            (_luminance(colours[line]), _luminance(colours["background"])), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= 3.0, line
