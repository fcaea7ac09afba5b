"""A real model with its head, under a schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import nextn

pytestmark = pytest.mark.models

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 20},
        "minutes": {"type": "integer", "minimum": 1, "maximum": 240},
        "difficulty": {"enum": ["easy", "medium", "difficult"]},
        "ingredients": {
            "type": "array",
            "items": {"type": "string", "maxLength": 12},
            "minItems": 1,
            "maxItems": 2,
        },
    },
    "required": ["title", "minutes", "difficulty", "ingredients"],
    "additionalProperties": False,
}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
)


def test_answers_are_valid_and_the_same_with_and_without_drafts(smollm2_path: Path) -> None:
    validator = jsonschema_rs.validator_for(SCHEMA)
    with nextn.load(smollm2_path, threads=1, context=256) as model:
        prompt = model.chat_prompt([{"role": "user", "content": "A recipe for pancakes as JSON."}])
        for seed, settings in enumerate(SETTINGS):
            common = {"json_schema": SCHEMA, "seed": seed, "max_tokens": 120, **settings}
            plain = model.generate(prompt, draft="off", **common)
            drafted = model.generate(prompt, draft=4, **common)
            assert drafted.tokens == plain.tokens
            validator.validate(json.loads(plain.text))
            assert {"grammar", "head"} <= {token.drafter for token in drafted.events}
            assert drafted.statistics.steps < plain.statistics.steps
