"""How near automatic depth comes to the best fixed one, for drafts of known quality.

The drafter is a script: it knows the text, and each of its tokens is right with a given chance. It
takes a given time per pass, as a head does, and says of every token that its chance is 0.6, so that
the controller has to find out. Ways to write take turns in random order; each writes the same text,
greedily, and its speed is that against plain decoding just before and just after it: a machine that
changes its speed for half a minute must not favour a way. Prints the medians, and writes
results/scripted-NAME.json.

A machine that changes its speed within seconds still makes one of seven fixed depths look good. So
the ways are compared a second time, at the median time of all steps with as many drafted rows, in
all texts of all ways: there only what they decide makes a difference.

    python benchmarks/scripted.py random-1.6b-q4_0.gguf
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
        self.passes = 0  # so far
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
            # As a head does: the token that falls below the least product is part of the draft.
            while len(tokens) < min(want.limit, MOST) and product >= min(want.least, 1.0):
                at = want.position + len(tokens)
                token = self.text[at] if at < len(self.text) else 0
                right = at < len(self.text) and self.right[at, len(tokens)]
                tokens.append(token if right else token + 1 if token == 0 else token - 1)
                product *= CLAIMED
                end += self.pass_seconds
            self.passes += len(tokens)
            drafts.append(Draft(tokens, [CLAIMED] * len(tokens), self.name, len(tokens)))
        while time.perf_counter() < end:
            pass
        return drafts

    def observe(self, committed: Sequence[Committed]) -> None:
        """Nothing is learned."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of decoding: its drafted rows, passes of the drafter, seconds without these."""

    drafted: int
    passes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Text:
    """What was written: all tokens, those per second after the first one, and the steps."""

    tokens: list[int]
    speed: float
    steps: list[Step]


def write(
    model: nextn.Model, drafter: ScriptedDrafter, prompt: list[int], tokens: int, draft: str | int
) -> Text:
    """Write a text, with an engine that knows of no other.

    One that found the drafter useless in the text before would draft nothing.
    """
    engine = Engine(model.executor, model.tokenizer, drafters=[drafter])
    engine.calibrate()
    settings = {"draft": draft, "max_tokens": tokens, "temperature": 0.0, "ignore_end": True}
    sequence = engine.submit(request_from_settings(prompt, frozenset(), settings))
    counts = sequence.statistics
    steps = []
    while engine.running or engine.waiting:
        written, drafted, passes = counts.tokens, counts.drafted, drafter.passes
        began = time.perf_counter()
        engine.step()
        seconds = time.perf_counter() - began
        if written:
            passes = drafter.passes - passes
            seconds -= passes * drafter.pass_seconds
            steps.append(Step(counts.drafted - drafted, passes, seconds))
    return Text(list(sequence.tokens), counts.tokens_per_second, steps)


def measure(
    model: nextn.Model, script: str, prompt: list[int], arguments: argparse.Namespace
) -> tuple[dict[str, float], dict[str, list[Step]]]:
    """Median speed of each way, in units of plain decoding, and the steps of its texts."""
    drafter = ScriptedDrafter(0.0)
    plain = write(model, drafter, prompt, arguments.tokens, "off")
    text = drafter.text = plain.tokens
    drafter.pass_seconds = arguments.cost / plain.speed
    uniform = np.random.default_rng(1).random((len(text), MOST))
    drafter.right = np.zeros(uniform.shape, np.bool_)
    for position in range(len(prompt), len(text)):
        part = (position - len(prompt)) / arguments.tokens
        chances = [SCRIPTS[script](part, index) for index in range(MOST)]
        drafter.right[position] = uniform[position] < chances
    ways: list[str | int] = ["off", *DEPTHS, "auto"]
    steps: dict[str, list[Step]] = {str(way): [] for way in ways}
    speeds: dict[str, list[float]] = {str(way): [] for way in ways}
    order = random.Random(1)
    before = write(model, drafter, prompt, PLAIN, "off").speed
    for _ in range(arguments.rounds):
        for way in order.sample(ways, len(ways)):
            found = write(model, drafter, prompt, arguments.tokens, way)
            if found.tokens != text:
                raise RuntimeError("the texts differ")
            after = write(model, drafter, prompt, PLAIN, "off").speed
            speeds[str(way)].append(found.speed / statistics.mean((before, after)))
            steps[str(way)] += found.steps
            before = after
    return {way: statistics.median(each) for way, each in speeds.items()}, steps


def typical_seconds(scripts: Iterable[dict[str, list[Step]]]) -> dict[int, float]:
    """Median time of a step without the drafter's, by drafted rows."""
    seconds: dict[int, list[float]] = {}
    for ways in scripts:
        for step in (step for steps in ways.values() for step in steps):
            seconds.setdefault(step.drafted, []).append(step.seconds)
    return {drafted: statistics.median(each) for drafted, each in seconds.items()}


def typical_speeds(
    ways: dict[str, list[Step]], typical: dict[int, float], cost: float
) -> dict[str, float]:
    """Speed of each way if steps always took their typical time, in units of plain decoding."""
    plain = typical[0]

    def seconds(steps: Iterable[Step]) -> float:
        return sum(typical[step.drafted] + step.passes * cost * plain for step in steps)

    return {way: len(ways["off"]) * plain / seconds(steps) for way, steps in ways.items()}


def compare(speeds: dict[str, float]) -> tuple[str, float]:
    """The fastest way but the automatic one, and the automatic one's speed in units of its."""
    best = max((way for way in speeds if way != "auto"), key=speeds.__getitem__)
    return best, speeds["auto"] / speeds[best]


def show(script: str, speeds: dict[str, float]) -> None:
    """Print the speeds of one script."""
    best, ratio = compare(speeds)
    shown = ", ".join(f"{way} {speed:.3f}" for way, speed in speeds.items())
    print(f"{script:20} {shown}; auto is {ratio:.3f} of the best, {best}", flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cost", type=float, default=0.1, help="of a pass, in steps of one row")
    arguments = parser.parse_args()
    measured = {}
    with nextn.load(
        arguments.model, threads=arguments.threads, head=None, max_sequences=1
    ) as model:
        prompt = list(range(100, 116))
        for script in SCRIPTS:
            speeds, _ = measured[script] = measure(model, script, prompt, arguments)
            show(script, speeds)
    typical = typical_seconds(steps for _, steps in measured.values())
    results = {}
    print("at typical step times:")
    for script, (speeds, steps) in measured.items():
        at_typical = typical_speeds(steps, typical, arguments.cost)
        show(script, at_typical)
        best, ratio = compare(speeds)
        results[script] = {
            "speeds": speeds,
            "best": best,
            "auto_of_best": ratio,
            "typical": at_typical,
            "auto_of_best_typical": compare(at_typical)[1],
        }
    name = arguments.model = Path(arguments.model).stem
    print(write_result(f"scripted-{name}", {"settings": vars(arguments), "results": results}))


if __name__ == "__main__":
    main()
