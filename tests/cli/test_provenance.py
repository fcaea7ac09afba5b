from __future__ import annotations

import pytest

from nextn.cli.provenance import Means, Provenance, choose_means
from nextn.engine import Token

WRITTEN = [
    ("a", None),
    ("b", "head"),
    ("", "head"),
    ("c", "head"),
    ("d", "suffix"),
    ("e\n", None),
    ("f", "assistant"),
]


def show(provenance: Provenance) -> str:
    pieces = [
        provenance.mark(Token(text, 0, position, drafter=drafter), text)
        for position, (text, drafter) in enumerate(WRITTEN)
    ]
    return "".join(pieces) + provenance.close()


def test_colours_tell_drafters_apart() -> None:
    provenance = Provenance("colours")
    assert show(provenance) == (
        "a\x1b[32mb\x1b[0m\x1b[32mc\x1b[0m\x1b[36md\x1b[0me\n\x1b[35mf\x1b[0m"
    )
    assert provenance.legend() == (
        "tokens: 2 of the trunk, \x1b[32m3 of the head drafter (green)\x1b[0m, "
        "\x1b[36m1 of the suffix drafter (cyan)\x1b[0m, "
        "\x1b[35m1 of the assistant drafter (magenta)\x1b[0m"
    )


def test_brackets_enclose_what_a_drafter_foresaw() -> None:
    provenance = Provenance("brackets")
    assert show(provenance) == "a⟦bc⟧⟨d⟩e\n⟪f⟫"
    assert provenance.close() == ""
    assert provenance.legend() == (
        "tokens: 2 of the trunk, 3 of the head drafter (⟦⟧), 1 of the suffix drafter (⟨⟩), "
        "1 of the assistant drafter (⟪⟫)"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "no such encoding"])
def test_brackets_are_ascii_where_they_must(encoding: str) -> None:
    provenance = Provenance("brackets", encoding)
    assert show(provenance) == "a[[bc]]{{d}}e\n<<f>>"
    assert "3 of the head drafter ([[]])" in provenance.legend()


def test_nothing_changes_the_text_of_a_pipe() -> None:
    provenance = Provenance("nothing")
    assert show(provenance) == "abcde\nf"
    assert provenance.legend().startswith("tokens: 2 of the trunk, 3 of the head drafter, ")


def test_more_drafters_than_colours_share_the_last() -> None:
    provenance = Provenance("colours")
    shown = [
        provenance.mark(Token("x", 0, 0, drafter=name), "x") for name in ("one", "two", "three")
    ]
    assert shown == ["\x1b[35mx\x1b[0m", "\x1b[33mx\x1b[0m", "\x1b[33mx\x1b[0m"]


@pytest.mark.parametrize(
    ("terminal", "environment", "means"),
    [
        (True, {}, "colours"),
        (True, {"NO_COLOR": "1"}, "brackets"),
        (True, {"TERM": "dumb"}, "brackets"),
        (False, {}, "nothing"),
        (False, {"FORCE_COLOR": "1"}, "colours"),
    ],
)
def test_the_means_follow_the_terminal_and_the_environment(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], means: Means
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert choose_means() == means
