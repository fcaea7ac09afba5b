"""Time of steps, prompts and batches, against llama.cpp and ik_llama.cpp on the same file.

Each engine has a process of its own with the same threads, tokens and cache. They take turns in
rounds; whoever is not being timed is idle, which is checked. Of each peer there is one process for
every way to run it (flash attention or not, ik_llama.cpp with weights repacked or not); for each
case the fastest in a short trial takes part. Each holds the model in memory of its own. Prints
medians, and writes results/steps-NAME.json.

    python benchmarks/steps.py smollm2 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from machine import write_result
from nextn.bench import StepCosts
from nextn.files import open_checkpoint
from nextn.files.sources import resolve
from nextn.models import load_model_plan
from nextn.plan import fuse
from peers import VARIANTS, available_engines, has_cache_types
from workers import PAUSE, Worker, WorkerError

ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
PROMPT = 512
SEQUENCES = 8
REPEATS = 5  # timed steps per turn
TRIALS = 3  # timed steps of each variant of a peer, to find the fastest
SCENARIOS = ("rows", "prompt", "depth", "depth-q8_0", "sequences")
Tokens = list[list[int]]


@dataclass(frozen=True)
class Case:
    """One step that is timed.

    Attributes:
        name: in the results.
        rows: tokens of each sequence.
        logits: how many of them want logits.
        repeats: timed steps per turn.
    """

    name: str
    rows: int
    logits: int
    repeats: int = REPEATS


@dataclass(frozen=True)
class Scenario:
    """Cases that share contexts.

    Attributes:
        name: one of SCENARIOS.
        cases: what is timed.
        depth: tokens of each sequence before the step.
        sequences: sequences of the step.
        cache_type: of keys and values.
        advance: each step goes on where the last one ended, as when text is written.
    """

    name: str
    cases: tuple[Case, ...]
    depth: int
    sequences: int = 1
    cache_type: str = "f16"
    advance: bool = False

    def room(self, rounds: int) -> int:
        """Positions that each sequence needs."""
        steps = (TRIALS + 1) + rounds * (REPEATS + 1) if self.advance else 1
        return self.depth + steps * max(case.rows for case in self.cases)


@dataclass
class Contestant:
    """A way to run an engine, in a process of its own.

    Attributes:
        engine: one of `peers.ENGINES`.
        variant: what is special about this way; one of `peers.VARIANTS`.
        settings: arguments of the engine.
        worker: its process; None if it does not run.
        times: seconds of its steps.
    """

    engine: str
    variant: str
    settings: dict[str, Any]
    worker: Worker | None = None
    times: list[float] = field(default_factory=list)
    _number: int = 0
    _position: int = 0

    def enter(self, scenario: Scenario, tokens: Tokens, rounds: int) -> None:
        """Make a context and fill it."""
        if self.worker is None:
            self.worker = Worker(self.engine, **self.settings)
        self._number = self.worker.open(
            context=scenario.room(rounds),
            sequences=scenario.sequences,
            cache_type=scenario.cache_type,
            rollback=not scenario.advance,
        )
        self._position = scenario.depth
        if scenario.depth:
            self.worker.fill(self._number, [mine[: scenario.depth] for mine in tokens])

    def turn(self, scenario: Scenario, case: Case, tokens: Tokens, repeats: int) -> list[float]:
        """Time some steps."""
        if self.worker is None:
            raise WorkerError(f"{self.engine} does not run")
        seconds = self.worker.time(
            self._number,
            [mine[: case.rows] for mine in tokens],
            self._position,
            logits=case.logits,
            repeats=repeats,
            advance=scenario.advance,
        )
        if scenario.advance:
            self._position += (repeats + 1) * case.rows
        return seconds

    def leave(self) -> None:
        """Give the context back."""
        if self.worker is not None:
            self.worker.close(self._number)

    def stop(self, reason: object = None) -> None:
        """End the process; the next scenario starts another one."""
        if reason is not None:
            print(f"left out: {reason} ({self.variant})", file=sys.stderr, flush=True)
            if self.engine == "nextn":
                raise SystemExit(1)
        if self.worker is not None:
            self.worker.stop()
            self.worker = None


def scenarios(context: int, depth: int) -> list[Scenario]:
    """All scenarios, for steps at `context`, and decoding at `depth`."""
    rows = tuple(Case(f"rows {count}", count, count) for count in ROWS)
    one = Case(f"decoding at {depth}", 1, 1)
    quantised = Case(f"decoding at {depth}, q8_0", 1, 1)
    together = Case(f"{SEQUENCES} sequences", 1, 1)
    return [
        Scenario("rows", rows, context),
        Scenario("prompt", (Case(f"prompt {PROMPT}", PROMPT, 1, repeats=1),), 0),
        Scenario("depth", (one,), depth, advance=True),
        Scenario("depth-q8_0", (quantised,), depth, cache_type="q8_0", advance=True),
        Scenario("sequences", (together,), context, SEQUENCES, advance=True),
    ]


def quiet(ways: list[Contestant]) -> None:
    """Let all threads come to rest."""
    time.sleep(PAUSE)
    for way in ways:
        if way.worker is not None:
            way.worker.wait_until_idle()


def enter(scenario: Scenario, ways: list[Contestant], tokens: Tokens, rounds: int) -> None:
    """Prepare all ways, one after the other."""
    for way in ways:
        try:
            way.enter(scenario, tokens, rounds)
        except WorkerError as error:
            way.stop(error)


def choose(
    scenario: Scenario, case: Case, ways: list[Contestant], tokens: Tokens
) -> list[Contestant]:
    """The fastest way to run each engine."""
    best: dict[str, tuple[float, Contestant]] = {}
    for way in ways:
        if way.worker is None:
            continue
        quiet(ways)
        try:
            fastest = min(way.turn(scenario, case, tokens, min(TRIALS, case.repeats)))
        except WorkerError as error:
            way.stop(error)
            continue
        if way.engine not in best or fastest < best[way.engine][0]:
            best[way.engine] = fastest, way
    return [way for _, way in best.values()]


def run_case(
    scenario: Scenario, case: Case, ways: list[Contestant], tokens: Tokens, rounds: int
) -> dict[str, Any]:
    """Let the engines take turns, each in its fastest way."""
    chosen = choose(scenario, case, ways, tokens)
    for way in chosen:
        way.times = []
    for round_number in range(rounds):
        shift = round_number % len(chosen)
        for way in chosen[shift:] + chosen[:shift]:
            quiet(ways)
            try:
                way.times += way.turn(scenario, case, tokens, case.repeats)
            except WorkerError as error:
                way.stop(error)
                chosen = [other for other in chosen if other is not way]
    return {
        way.engine: {
            "median_ms": round(1e3 * statistics.median(way.times), 3),
            "min_ms": round(1e3 * min(way.times), 3),
            **({"variant": way.variant} if way.variant else {}),
        }
        for way in chosen
    }


def random_tokens(vocab_size: int, selected: list[Scenario]) -> Tokens:
    """Tokens for every sequence, control tokens at the ends of the vocabulary left out."""
    length = max(max(scenario.depth, *(c.rows for c in scenario.cases)) for scenario in selected)
    random = np.random.default_rng(0)
    tokens: Tokens = random.integers(300, vocab_size - 300, (SEQUENCES, length)).tolist()
    return tokens


def show(name: str, figures: dict[str, Any]) -> None:
    """One line: the times, and how much faster nextn is."""
    ours = figures["nextn"]["median_ms"]
    parts = [f"{name:24} nextn {ours:9.2f} ms"]
    for engine, figure in figures.items():
        if engine != "nextn":
            parts.append(
                f"{engine} {figure['median_ms']:9.2f} ms, {figure['median_ms'] / ours:5.2f} x "
                f"({figure['variant']})"
            )
    print("; ".join(parts), flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=256, help="of steps and of sequences")
    parser.add_argument("--depth", type=int, default=4096, help="of decoding")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="may be repeated")
    parser.add_argument("--name", help="of the result; by default the model's")
    arguments = parser.parse_args()
    path = resolve(arguments.model).path
    engines = available_engines()
    print(f"engines: {', '.join(engines)}", flush=True)
    selected = [
        scenario
        for scenario in scenarios(arguments.context, arguments.depth)
        if scenario.name in (arguments.only or SCENARIOS)
    ]
    if not has_cache_types():
        selected = [scenario for scenario in selected if scenario.cache_type == "f16"]

    cases = []
    ways = [
        Contestant(engine, variant, {"path": str(path), "threads": arguments.threads, **more})
        for engine in engines
        for variant, more in VARIANTS[engine].items()
    ]
    try:
        with open_checkpoint(path) as checkpoint:
            plan = fuse(load_model_plan(checkpoint))
            tokens = random_tokens(plan.vocab_size, selected)
            for scenario in selected:
                mine = tokens[: scenario.sequences]
                enter(scenario, ways, mine, arguments.rounds)
                costs = StepCosts.of(checkpoint, plan, cache_type=scenario.cache_type)
                for case in scenario.cases:
                    figures = run_case(scenario, case, ways, mine, arguments.rounds)
                    show(case.name, figures)
                    work = costs.step(
                        case.rows,
                        scenario.depth,
                        sequences=scenario.sequences,
                        logits=case.logits,
                    )
                    cases.append(
                        {
                            "case": case.name,
                            "tokens": case.rows * scenario.sequences,
                            "bytes": round(work.bytes),
                            "products": round(work.products),
                            "engines": figures,
                        }
                    )
                for way in ways:
                    way.leave()
    finally:
        for way in ways:
            way.stop()
    settings = {
        key: getattr(arguments, key) for key in ("model", "threads", "context", "depth", "rounds")
    }
    settings["model"] = Path(arguments.model).stem
    name = arguments.name or settings["model"]
    print(write_result(f"steps-{name}", {"settings": settings, "cases": cases}))


if __name__ == "__main__":
    main()
