from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nextn
from nextn.cli import chat
from nextn.cli.chat import Chat
from nextn.model import Model
from nextn.speculate import Useless

SETTINGS: dict[str, Any] = {"max_tokens": 6, "seed": 4, "ignore_end": True}
OPTIONS: dict[str, Any] = {
    "system": None,
    "chat_template_kwargs": None,
    "show_drafts": False,
    "quiet": False,
    "verbose": False,
}


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[Model]:
    with nextn.load(tiny, max_sequences=1) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def _history_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(chat, "_history_path", lambda: tmp_path / "history")


def reader(*lines: str | type[BaseException]) -> Callable[[str], str]:
    """Reads these lines, raises these exceptions, then ends."""
    left = iter(lines)

    def read(_prompt: str) -> str:
        line = next(left, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read


def talk(model: Model, *lines: str | type[BaseException], **options: object) -> Chat:
    conversation = Chat(model, SETTINGS, OPTIONS | options, reader(*lines))
    conversation.run()
    return conversation


def test_every_turn_continues_the_conversation(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = talk(model, "the rain", "and on")
    messages = [{"role": "user", "content": "the rain"}]
    messages += [{"role": "assistant", "content": model.chat(messages, **SETTINGS).text}]
    messages += [{"role": "user", "content": "and on"}]
    messages += [{"role": "assistant", "content": model.chat(messages, **SETTINGS).text}]
    assert conversation.messages == messages
    shown = capsys.readouterr()
    assert messages[-1]["content"] in shown.out
    assert shown.err.count("6 tokens, ") == 2


def test_the_beginning_of_the_conversation_stays_cached(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(model, "a " * 100, "b", "/stats")
    summary = capsys.readouterr().err.splitlines()[-2]
    assert summary.startswith("2 answers, 12 tokens, ")
    cached, of = (int(word) for word in summary.split("; ")[1].split() if word.isdigit())
    assert 64 < cached < of


def test_a_system_message_stays(model: Model) -> None:
    conversation = talk(model, "hello", "/clear", system="be brief")
    assert conversation.messages == [{"role": "system", "content": "be brief"}]


@pytest.mark.parametrize("word", ["/exit", "/quit", "/bye"])
def test_a_word_ends_the_chat(model: Model, word: str) -> None:
    assert talk(model, word, "not read").messages == []


def test_commands_are_listed_and_unknown_ones_refused(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(model, "/help", "/sing", "/stats").messages == []
    said = capsys.readouterr().err
    for part in ("/clear", "/stats", "/exit", "no command /sing", "nothing was written yet"):
        assert part in said


def test_a_path_is_no_command(model: Model) -> None:
    assert talk(model, "/etc/hosts").messages[0]["content"] == "/etc/hosts"


def test_a_message_may_have_several_lines(model: Model) -> None:
    assert talk(model, '"""one', "two", 'three"""').messages[0]["content"] == "one\ntwo\nthree"
    assert talk(model, '"""one"""').messages[0]["content"] == "one"


def test_empty_lines_and_ctrl_c_ask_again(model: Model) -> None:
    assert len(talk(model, "", "  ", KeyboardInterrupt, "hello").messages) == 2


def test_a_message_that_does_not_fit_is_refused_and_forgotten(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = talk(model, "a " * 600, "hello")
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[0]["content"] == "hello"
    (error,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert error.startswith("nextn: error: the prompt has")


def test_a_model_without_a_template_cannot_chat(tiny_base: Path) -> None:
    with (
        nextn.load(tiny_base, max_sequences=1) as base,
        pytest.raises(nextn.UnsupportedModelError, match="not made for chat"),
    ):
        talk(base, "hello")


def test_an_interrupt_before_the_first_token_leaves_no_answer(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    conversation = Chat(model, SETTINGS, OPTIONS, reader("/stats"))
    with monkeypatch.context() as patch:
        patch.setattr("nextn.engine.session.TokenStream.__next__", interrupt)
        conversation.answer("never answered")
    assert conversation.messages == []
    conversation.answer("hello")
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]
    conversation.run()
    assert "1 answer, 6 tokens" in capsys.readouterr().err


def test_a_drafter_that_was_given_up_is_told_of_once(
    model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    useless = Useless("head", drafts=200, accepted=1)
    monkeypatch.setattr(type(model.engine), "useless", property(lambda _: useless))
    talk(model, "hello", "and on")
    line = "the head is useless here: 1 of 200 drafts accepted; "
    assert capsys.readouterr().err.count(line) == 1
    talk(model, "hello", quiet=True)
    assert line not in capsys.readouterr().err
