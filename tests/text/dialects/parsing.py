"""Parses whole texts, cut into pieces, and puts together what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from nextn.text.dialects import (
    CallArguments,
    CallBegin,
    CallEnd,
    Delta,
    Dialect,
    Reasoning,
    Text,
    Tool,
)

WEATHER = Tool(
    "get_weather",
    "Tell the weather.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "detailed": {"type": "boolean"},
            "hours": {"type": "array", "items": {"type": "number"}},
            "options": {"type": "object"},
        },
        "required": ["city"],
    },
)
NOW = Tool("now", "Tell the time.")
TOOLS = (WEATHER, NOW)


@dataclass
class Call:
    name: str
    arguments: str = ""
    complete: bool | None = None


@dataclass
class Parsed:
    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    source: str = ""
    kinds: list[str] = field(default_factory=list)

    @property
    def values(self) -> list[tuple[str, Any]]:
        """Names and arguments of the complete calls."""
        return [(each.name, json.loads(each.arguments)) for each in self.calls if each.complete]


def put_together(deltas: Iterable[Delta]) -> Parsed:
    """Join the deltas, and check that calls are begun and ended in order."""
    parsed = Parsed()
    for delta in deltas:
        parsed.source += delta.source
        kind = type(delta).__name__
        if kind != "Mark" and parsed.kinds[-1:] != [kind]:
            parsed.kinds.append(kind)
        match delta:
            case Text(text):
                assert text
                parsed.text += text
            case Reasoning(text):
                assert text
                parsed.reasoning += text
            case CallBegin(index, name):
                assert index == len(parsed.calls)
                assert index == 0 or parsed.calls[-1].complete is not None
                parsed.calls.append(Call(name))
            case CallArguments(index, text):
                assert index == len(parsed.calls) - 1
                assert parsed.calls[-1].complete is None
                parsed.calls[-1].arguments += text
            case CallEnd(index, complete):
                assert index == len(parsed.calls) - 1
                parsed.calls[-1].complete = complete
                if complete:
                    assert isinstance(json.loads(parsed.calls[-1].arguments), dict)
    assert all(call.complete is not None for call in parsed.calls)
    return parsed


def parse(
    dialect: Dialect,
    pieces: str | Sequence[str],
    tools: Iterable[Tool] = TOOLS,
    opening: str = "",
) -> Parsed:
    """Parse a text, or pieces of one."""
    parser = dialect.parser(tools, opening=opening)
    deltas: list[Delta] = []
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        deltas += parser.push(piece)
    return put_together([*deltas, *parser.finish()])


def cut(text: str, places: Iterable[int]) -> list[str]:
    """Cut a text at places."""
    ordered = [0, *sorted({place for place in places if place <= len(text)}), len(text)]
    return [text[a:b] for a, b in pairwise(ordered)]
