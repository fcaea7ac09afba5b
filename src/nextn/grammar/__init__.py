"""Structured output: JSON schemas, regular expressions and grammars that a text has to follow.

The work is done by llguidance, which is imported when the first constraint is made.
"""

from __future__ import annotations

from nextn.grammar.schema_cost import check_schema
from nextn.grammar.specification import (
    GRAMMAR_SETTINGS,
    Specification,
    specification_from_settings,
)

__all__ = ["GRAMMAR_SETTINGS", "Specification", "check_schema", "specification_from_settings"]
