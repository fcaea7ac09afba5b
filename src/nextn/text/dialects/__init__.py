"""How models write reasoning and tool calls, and what that means.

A dialect is chosen by the marks in the chat template. Its parser takes a text piece by piece and
hands out text, reasoning and calls; what does not parse as a call comes out as text.
"""

from nextn.text.dialects.base import Dialect, Parser
from nextn.text.dialects.deltas import (
    CallArguments,
    CallBegin,
    CallEnd,
    Delta,
    Mark,
    Reasoning,
    Text,
)
from nextn.text.dialects.find import find_dialect
from nextn.text.dialects.tools import Tool

__all__ = [
    "CallArguments",
    "CallBegin",
    "CallEnd",
    "Delta",
    "Dialect",
    "Mark",
    "Parser",
    "Reasoning",
    "Text",
    "Tool",
    "find_dialect",
]
