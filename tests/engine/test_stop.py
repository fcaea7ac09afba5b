from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nextn.engine.stop import StopMatcher

TEXT = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple)


def cut(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The definition: the first end of a stop string, and its longest one there."""
    for end in range(len(text) + 1):
        for start in range(end):
            if text[start:end] in stops:
                return text[:start], True
    return text, False


@given(st.lists(TEXT), STOPS)
def test_pieces_are_cut_as_the_whole_text_is(pieces: list[str], stops: tuple[str, ...]) -> None:
    matcher = StopMatcher(stops)
    shown, stopped = "", False
    for piece in pieces:
        text, stopped = matcher.push(piece)
        shown += text
        if stopped:
            break
    shown += matcher.finish()
    assert (shown, stopped) == cut("".join(pieces), stops)


@given(st.lists(TEXT), STOPS)
def test_text_is_shown_as_soon_as_it_is_certain(pieces: list[str], stops: tuple[str, ...]) -> None:
    matcher = StopMatcher(stops)
    seen = shown = ""
    for piece in pieces:
        seen += piece
        text, stopped = matcher.push(piece)
        shown += text
        if stopped:
            break
        held = seen[len(shown) :]
        assert held == "" or any(s.startswith(held) and s != held for s in stops)
        # What is shown could not have become part of a stop string.
        assert not any(seen.endswith(s[:n]) for s in stops for n in range(len(held) + 1, len(s)))


def test_a_stop_string_across_pieces_is_held_back_and_cut() -> None:
    matcher = StopMatcher(("\n\n",))
    assert matcher.push("one\n") == ("one", False)
    assert matcher.push("two\n") == ("\ntwo", False)
    assert matcher.push("\nthree") == ("", True)
    assert matcher.finish() == ""


def test_held_text_is_given_out_at_the_end() -> None:
    matcher = StopMatcher(("stop",))
    assert matcher.push("no sto") == ("no ", False)
    assert matcher.finish() == "sto"
