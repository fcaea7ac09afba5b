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
    """A grammar for an answer that calls tools.

    Args:
        dialect: of the model.
        tools: those that may be called; at least one.
        term: see `terms`.
        several: whether there may be more than one call.
        opened: whether the prompt opened the reasoning.
        answer: the JSON schema of an answer that may be given instead; None for none.
    """
    body = "calls" if answer is None else "(calls | answer)"
    rules = [dialect.calls.grammar(tools, term, several=several)]
    if answer is not None:
        rules.append(f"answer: %json {json.dumps(with_settings(answer))}")
    reasoning = dialect.reasoning
    if reasoning is None:
        start = body
    else:
        rules += [text_up_to("thought", reasoning.end, term), "space: /[ \\n]{0,4}/"]
        thinking = "thought space"
        start = f"{thinking if opened else f'({term(reasoning.begin)} {thinking})?'} {body}"
    return "\n".join([f"start: {start}", *rules])
