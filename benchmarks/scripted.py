"""How near automatic depth comes to the best fixed one, for drafts of known quality.

The drafter is a script: it knows the text, and each of its tokens is right with a given chance. It
takes a given time per pass, as a head does, and says of every token that its chance is 0.6, so that
the controller has to find out. Ways to write take turns in random order; each writes the same text,
greedily, and its speed is that against plain decoding just before and just after it: a machine that
changes its speed for half a minute must not favour a way. Prints the medians, and writes
results/scripted-NAME.json.

    python benchmarks/scripted.py random-1.6b-q4_0.gguf
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import nextn
from machine import write_result
from nextn.engine import Engine
from nextn.engine.request import request_from_settings
from nextn.speculate import Committed, Draft, Want

MOST = 8
SCRIPTS = {
    "0.9, 0.8, 0.7, ...": lambda part, depth: max(0.9 - 0.1 * depth, 0.05),
    "0.6": lambda part, depth: 0.6,
    "0.3": lambda part, depth: 0.3,
    "0.85, then 0.15": lambda part, depth: 0.85 if part < 0.5 else 0.15,
    "0": lambda part, depth: 0.0,
}
"""Chance that a token is right, given those before it, by the part of the text that is written and
by the token's index in the draft."""
DEPTHS = (1, 2, 3, 4, 6, 8)
CLAIMED = 0.6
PLAIN = 40
"""Tokens that are written plainly between two ways."""


class ScriptedDrafter:
    """A costly drafter whose tokens are right as often as a script says; see `Drafter`."""

    name = "head"
    free = False

    def __init__(self, pass_seconds: float) -> None:
        self.pass_seconds = pass_seconds
        self.text: list[int] = []
        self.right = np.zeros((0, MOST), np.bool_)  # by position and index in the draft

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        """Nothing is kept."""

    def close(self, sequence: int) -> None:
        """Nothing is kept."""

    def behind(self, sequence: int) -> int:
        """Nothing is read."""
        del sequence
        return 0

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """Take the time of a head, and guess."""
        end = time.perf_counter()
        drafts = []
        for want in wants:
            tokens: list[int] = []
            product = 1.0
            while len(tokens) < min(want.limit, MOST) and product >= want.least:
                at = want.position + len(tokens)
                token = self.text[at] if at < len(self.text) else 0
                right = at < len(self.text) and self.right[at, len(tokens)]
                tokens.append(token if right else token + 1 if token == 0 else token - 1)
                product *= CLAIMED
                end += self.pass_seconds
            drafts.append(Draft(tokens, [CLAIMED] * len(tokens), self.name, len(tokens)))
        while time.perf_counter() < end:
            pass
        return drafts

    def observe(self, committed: Sequence[Committed]) -> None:
        """Nothing is learned."""


def write(
    engine: Engine, prompt: list[int], tokens: int, draft: str | int
) -> tuple[list[int], float]:
    """Write a text; the whole of it, and tokens per second after the first."""
    settings = {"draft": draft, "max_tokens": tokens, "temperature": 0.0, "ignore_end": True}
    engine.cache.reset()
    sequence = engine.submit(request_from_settings(prompt, frozenset(), settings))
    while engine.running or engine.waiting:
        engine.step()
    return list(sequence.tokens), sequence.statistics.tokens_per_second


def measure(
    model: nextn.Model, script: str, prompt: list[int], arguments: argparse.Namespace
) -> dict[str, float]:
    """Median speed of each way, in units of plain decoding."""
    drafter = ScriptedDrafter(0.0)
    engine = Engine(model.executor, model.tokenizer, drafters=[drafter])
    engine.calibrate()
    text, speed = write(engine, prompt, arguments.tokens, "off")
    drafter.text = text
    drafter.pass_seconds = arguments.cost / speed
    uniform = np.random.default_rng(1).random((len(text), MOST))
    drafter.right = np.zeros(uniform.shape, np.bool_)
    for position in range(len(prompt), len(text)):
        part = (position - len(prompt)) / arguments.tokens
        chances = [SCRIPTS[script](part, index) for index in range(MOST)]
        drafter.right[position] = uniform[position] < chances
    ways: list[str | int] = ["off", *DEPTHS, "auto"]
    speeds: dict[str | int, list[float]] = {way: [] for way in ways}
    order = random.Random(1)
    _, before = write(engine, prompt, PLAIN, "off")
    for _ in range(arguments.rounds):
        for way in order.sample(ways, len(ways)):
            found, speed = write(engine, prompt, arguments.tokens, way)
            if found != text:
                raise RuntimeError("the texts differ")
            _, after = write(engine, prompt, PLAIN, "off")
            speeds[way].append(speed / statistics.mean((before, after)))
            before = after
    return {str(way): statistics.median(each) for way, each in speeds.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cost", type=float, default=0.1, help="of a pass, in steps of one row")
    arguments = parser.parse_args()
    results = {}
    with nextn.load(
        arguments.model, threads=arguments.threads, head=None, max_sequences=1
    ) as model:
        prompt = list(range(100, 116))
        for script in SCRIPTS:
            speeds = measure(model, script, prompt, arguments)
            best = max((way for way in speeds if way != "auto"), key=speeds.__getitem__)
            shown = ", ".join(f"{way} {speed:.3f}" for way, speed in speeds.items())
            ratio = speeds["auto"] / speeds[best]
            print(f"{script:20} {shown}; auto is {ratio:.3f} of the best, {best}", flush=True)
            results[script] = {"speeds": speeds, "best": best, "auto_of_best": ratio}
    name = arguments.model = Path(arguments.model).stem
    print(write_result(f"scripted-{name}", {"settings": vars(arguments), "results": results}))


if __name__ == "__main__":
    main()
