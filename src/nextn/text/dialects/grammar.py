"""Grammars that make a model call a tool, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nextn.text.dialects.base import Dialect, Term
from nextn.text.dialects.parameter_values import text_up_to
from nextn.text.dialects.tools import Tool, with_settings

if TYPE_CHECKING:
    from nextn.text.tokenizer import Tokenizer


def terms(tokenizer: Tokenizer) -> Term:
    """How texts are written in a grammar: control tokens, which no text has, by their ids."""
    splitter = tokenizer.control_splitter

    def term(text: str) -> str:
        parts = splitter.split(text)
        return " ".join(
            f"<[{part}]>" if isinstance(part, int) else json.dumps(part, ensure_ascii=False)
            for part in parts
        )

    return term


def call_grammar(
    dialect: Dialect,
    tools: Sequence[Tool],
    term: Term,
    *,
    several: bool,
    opened: bool,
    answer: Any = None,
) -> str:
    """A grammar for a text that calls tools.

    Args:
        dialect: of the model.
        tools: those that may be called; at least one.
        term: see `terms`.
        several: whether there may be more than one call.
        opened: whether the prompt opened the reasoning.
        answer: the JSON schema of an answer that may be given instead; None for none.
    """
    rules = [dialect.calls.grammar(tools, term, several=several)]
    if answer is None:
        return _after_reasoning(dialect, "calls", rules, term, opened)
    rules.append(_answer(dialect, answer, term))
    return _after_reasoning(dialect, "(calls | answer)", rules, term, opened)


def answer_grammar(dialect: Dialect, schema: Any, term: Term, *, opened: bool) -> str:
    """A grammar for a text with an answer that fits a JSON schema; arguments as above."""
    rules = [_answer(dialect, schema, term)]
    return _after_reasoning(dialect, "answer", rules, term, opened)


def _answer(dialect: Dialect, schema: Any, term: Term) -> str:
    before, rules = dialect.calls.before_answer(term)
    return f"answer: {before} %json {json.dumps(with_settings(schema))}\n{rules}"


def _after_reasoning(
    dialect: Dialect, body: str, rules: list[str], term: Term, opened: bool
) -> str:
    """A grammar for `body`, before which the model may think, or must if it has begun to."""
    # Several parts of a dialect may need the same rule.
    rules = list(dict.fromkeys("\n".join(rules).split("\n")))
    reasoning = dialect.reasoning
    if reasoning is None:
        return "\n".join([f"start: {body}", *rules])
    thinking = "thought space"
    if not opened:
        thinking = f"({term(reasoning.begin)} {thinking})?"
    thought = text_up_to("thought", reasoning.end, term)
    return "\n".join([f"start: {thinking} {body}", *rules, thought, r"space: /[ \n]{0,4}/"])
