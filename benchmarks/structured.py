"""Whether answers under a JSON schema are valid, and what the schema costs.

Validity: each schema is answered with many seeds at temperature 1 without any filter, with drafts
of automatic depth, eight at a time; another library (jsonschema_rs) judges every answer. All
strings, lists and numbers of the schemas have bounds, so that every answer can end within the
limit of tokens: under a schema without bounds, any model may write on until the limit, and JSON
that was cut off is not valid.

Speed: in alternation, an answer under the schema, and the same number of tokens to the same prompt
without it. Tokens per second after the first token, over all prompts of a round; the ratio is the
median over the rounds. The ratio of the processor's time, that of the prompts included, says the
same on a machine that is busy with other things. Once with drafts of automatic depth and once
without any, which shows the bare cost of the masks. Answers under the schema with and without
drafts must be equal.

    python benchmarks/structured.py smollm2 --tries 500
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from typing import Any

import jsonschema_rs

import nextn
from machine import write_result

TOGETHER = 8
SPEEDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("automatic drafts, greedy", {"temperature": 0.0}),
    ("automatic drafts, T=1", {"temperature": 1.0}),
    ("no drafts, T=1", {"temperature": 1.0, "draft": "off"}),
)
PURE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def items(of: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": least, "maxItems": most}


def number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "contact": (
        "Make up a customer of a bicycle shop.",
        record(
            first_name=text(20),
            last_name=text(20),
            age=number(18, 99),
            customer_number={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
            newsletter={"type": "boolean"},
        ),
    ),
    "call": (
        "What will the weather be in Paris tomorrow? Call the tool get_weather.",
        record(
            name={"const": "get_weather"},
            arguments=record(
                city=text(30),
                unit={"enum": ["celsius", "fahrenheit"]},
                day={"type": "string", "format": "date"},
            ),
        ),
    ),
    "review": (
        'Judge this review: "The soup was cold, but the waiter was very kind."',
        record(
            sentiment={"enum": ["positive", "neutral", "negative"]},
            reasons=items(text(60), 1, 3),
            stars=number(1, 5),
        ),
    ),
    "recipe": (
        "Give a recipe for pancakes.",
        record(
            title=text(40),
            minutes=number(1, 240),
            ingredients=items(
                record(
                    name=text(24),
                    amount=number(1, 1000),
                    unit={"enum": ["g", "ml", "piece", "spoon"]},
                ),
                2,
                4,
            ),
        ),
    ),
    "ticket": (
        "Turn this into a ticket: the printer on the second floor prints empty pages.",
        record(
            summary=text(80),
            priority={"enum": ["low", "medium", "high"]},
            labels=items({"enum": ["hardware", "software", "network"]}, 0, 2),
            assignee={"anyOf": [text(20), {"type": "null"}]},
            steps={
                "type": "array",
                "prefixItems": [text(40)],
                "items": text(40),
                "minItems": 1,
                "maxItems": 2,
            },
        ),
    ),
}


def prompt_of(model: nextn.Model, question: str, schema: dict[str, Any]) -> list[int]:
    names = ", ".join(schema["properties"])
    return model.chat_prompt(
        [{"role": "user", "content": f"{question} Answer as JSON with the keys {names}."}]
    )


def check_answers(model: nextn.Model, tries: int, tokens: int) -> dict[str, Any]:
    """Write and judge `tries` answers; what was wrong with those that are not valid."""
    validators = {
        name: jsonschema_rs.validator_for(schema, validate_formats=True)
        for name, (_, schema) in TASKS.items()
    }
    names = list(TASKS)
    valid, lengths, wrong, drafters = 0, [], [], Counter[str]()
    started = time.perf_counter()
    for first in range(0, tries, TOGETHER):
        streams = []
        for seed in range(first, min(first + TOGETHER, tries)):
            name = names[seed % len(names)]
            question, schema = TASKS[name]
            stream = model.stream(
                prompt_of(model, question, schema),
                json_schema=schema,
                seed=seed,
                max_tokens=tokens,
                **PURE,
            )
            streams.append((name, seed, stream))
        for name, seed, stream in streams:
            answer = stream.collect()
            lengths.append(len(answer.tokens))
            drafters.update(token.drafter or "trunk" for token in answer.events)
            try:
                validators[name].validate(json.loads(answer.text))
                valid += 1
            except ValueError as error:  # of either library
                wrong.append({"task": name, "seed": seed, "text": answer.text, "why": str(error)})
        print(f"{valid} of {len(lengths)}", end="\r", flush=True)
    return {
        "tries": tries,
        "valid": valid,
        "tokens_per_answer": round(statistics.mean(lengths), 1),
        "longest_answer": max(lengths),
        "tokens_by_origin": dict(drafters),
        "seconds": round(time.perf_counter() - started, 1),
        "wrong": wrong,
    }


def measure_speed(model: nextn.Model, rounds: int, tokens: int, **settings: Any) -> dict[str, Any]:
    """Alternate with and without a schema."""
    speeds: dict[str, list[float]] = {"with": [], "without": []}
    steps: dict[str, list[float]] = {"with": [], "without": []}
    work: list[float] = []
    lengths: dict[int, int] = {}
    for turn in range(-1, rounds):  # the first one finds out the lengths, and does not count
        count = {"with": 0, "without": 0}
        seconds = {"with": 0.0, "without": 0.0}
        taken = {"with": 0, "without": 0}
        worked = {"with": 0.0, "without": 0.0}
        for seed, (question, schema) in enumerate(TASKS.values()):
            prompt = prompt_of(model, question, schema)
            under = {"json_schema": schema, "max_tokens": tokens}
            without = {"ignore_end": True, "max_tokens": lengths.get(seed, 1)}
            order = [("with", under), ("without", without)]
            for name, way in order if turn % 2 else reversed(order):
                began = time.process_time()
                done = model.generate(prompt, seed=seed, **settings, **way)
                worked[name] += time.process_time() - began
                if turn < 0:
                    lengths.setdefault(seed, len(done.tokens))
                    continue
                count[name] += len(done.tokens) - 1
                seconds[name] += done.statistics.writing_seconds
                taken[name] += done.statistics.steps - 1
        if turn < 0:
            continue
        work.append(worked["without"] / worked["with"])
        for name in speeds:
            speeds[name].append(count[name] / seconds[name])
            steps[name].append(count[name] / taken[name])
    ratios = [a / b for a, b in zip(speeds["with"], speeds["without"], strict=True)]
    return {
        "with_schema": round(statistics.median(speeds["with"]), 1),
        "without_schema": round(statistics.median(speeds["without"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_of_processor_time": round(statistics.median(work), 3),
        "tokens_per_step_with": round(statistics.median(steps["with"]), 2),
        "tokens_per_step_without": round(statistics.median(steps["without"]), 2),
    }


def check_equal(model: nextn.Model, tokens: int) -> None:
    """The same answers with and without drafts."""
    for seed, (question, schema) in enumerate(TASKS.values()):
        prompt = prompt_of(model, question, schema)
        settings = {"json_schema": schema, "max_tokens": tokens, "seed": seed, **PURE}
        texts = {model.generate(prompt, draft=way, **settings).text for way in ("off", "auto", 5)}
        if len(texts) != 1:
            raise RuntimeError("the texts differ")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--tries", type=int, default=500, help="0 measures the speed only")
    parser.add_argument("--tokens", type=int, default=400, help="limit of an answer")
    parser.add_argument("--rounds", type=int, default=5, help="0 checks the answers only")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    speeds: dict[str, Any] = {}
    with nextn.load(arguments.model, threads=arguments.threads) as model:
        check_equal(model, arguments.tokens)
        for name, settings in SPEEDS if arguments.rounds else ():
            speeds[name] = measure_speed(model, arguments.rounds, arguments.tokens, **settings)
            print(f"{name:26}", speeds[name], flush=True)
        if speeds:
            result = {"settings": vars(arguments), "speed": speeds}
            print(write_result(f"structured-speed-{arguments.model}", result))
        if arguments.tries:
            answers = check_answers(model, arguments.tries, arguments.tokens)
            print(f"{answers['valid']} of {answers['tries']} answers are valid", answers)
            result = {"settings": vars(arguments), "answers": answers}
            print(write_result(f"structured-answers-{arguments.model}", result))


if __name__ == "__main__":
    main()
