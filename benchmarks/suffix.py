"""What the suffix drafter brings on text that repeats itself, and what it costs on prose.

Each prompt is continued plainly and with drafts of automatic depth, in alternation, greedily; the
text is the same, the time is not. Prints the ratio of the speeds (medians) and writes
results/suffix-NAME.json.

    python benchmarks/suffix.py smollm2
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import nextn
from machine import write_result
from prompts import COPY_BEGINNING, COPY_HEAVY, PROSE


def copy_prompt(model: nextn.Model) -> list[int]:
    """The rewriting task, with the first lines of the answer given, so that it stays on task."""
    prompt = model.chat_prompt([{"role": "user", "content": COPY_HEAVY}])
    return prompt + model.tokenizer.encode(COPY_BEGINNING, add_special=False)


def measure(
    model: nextn.Model, prompt: list[int], tokens: int, rounds: int, **settings: Any
) -> dict[str, Any]:
    """Alternate plain and automatic; medians of tokens per second after the first token."""
    speeds: dict[str, list[float]] = {"off": [], "auto": []}
    texts = set()
    for turn in range(rounds):
        order = ("off", "auto") if turn % 2 == 0 else ("auto", "off")
        for draft in order:
            done = model.generate(
                prompt, draft=draft, max_tokens=tokens, ignore_end=True, **settings
            )
            speeds[draft].append(done.statistics.tokens_per_second)
            texts.add(tuple(done.tokens))
            if draft == "auto":
                last = done.statistics
    if len(texts) != 1:
        raise RuntimeError("the texts differ")
    plain, auto = (statistics.median(speeds[draft]) for draft in ("off", "auto"))
    return {
        "plain_tokens_per_second": round(plain, 1),
        "auto_tokens_per_second": round(auto, 1),
        "ratio": round(auto / plain, 3),
        "tokens_per_step": round(last.tokens_per_step, 2),
        "acceptance": round(last.acceptance, 3),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    rows = {}
    with nextn.load(arguments.model, threads=arguments.threads, head=None) as model:
        prompts = {"copy": (copy_prompt(model), {"temperature": 0.0})}
        for number, text in enumerate(PROSE, 1):
            chat = model.chat_prompt([{"role": "user", "content": text}])
            prompts[f"prose {number}, greedy"] = (chat, {"temperature": 0.0})
            prompts[f"prose {number}, T=0.8"] = (chat, {"temperature": 0.8, "seed": number})
        for name, (prompt, settings) in prompts.items():
            rows[name] = measure(model, prompt, arguments.tokens, arguments.rounds, **settings)
            print(f"{name:18}", rows[name], flush=True)
    print(write_result(f"suffix-{arguments.model}", {"settings": vars(arguments), "results": rows}))


if __name__ == "__main__":
    main()
