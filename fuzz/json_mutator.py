"""Changes inputs that are JSON, so that they stay JSON: replaces, doubles and drops values."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = [
    *(0, 1, -1, 2, 3, 4, 5, 6, 7, 255, 256, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 63, 0.5, -0.0),
    *(1e38, -1e38, 5e-324, float("inf"), float("-inf"), float("nan")),
]


def mutator(text_of: Callable[[str, Random], str]) -> Callable[[bytes, int, int], bytes]:
    """Make a mutator of JSON.

    Args:
        text_of: changes one string.
    """

    def change(value: Any, random: Random) -> Any:
        if isinstance(value, dict) and value:
            key = random.choice(list(value))
            return {**value, key: change(value[key], random)}
        if isinstance(value, list):
            return change_list(value, random)
        if isinstance(value, str):
            return text_of(value, random)
        if isinstance(value, bool):
            return not value
        if isinstance(value, int | float) and random.random() < 0.5:
            return value + random.choice([-1, 1, 10])
        return random.choice([None, True, *NUMBERS])

    def change_list(items: list[Any], random: Random) -> list[Any]:
        if not items:
            return items
        at = random.randrange(len(items))
        match random.randrange(6):
            case 0:
                return items[:at] + items[at + 1 :]
            case 1:
                return [*items[:at], random.choice(items), *items[at:]]
            case 2:
                other = random.randrange(len(items))
                items = list(items)
                items[at], items[other] = items[other], items[at]
                return items
            case _:
                return [*items[:at], change(items[at], random), *items[at + 1 :]]

    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = {}
        for _ in range(random.choice([1, 1, 2, 4])):
            value = change(value, random)
        changed = json.dumps(value).encode()
        return changed if len(changed) <= max_size else content

    return mutate
