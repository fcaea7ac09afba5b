"""Promise 1, measured: equal token ids and log probabilities whatever speeds the text up.

Every prompt is continued greedily and at three temperatures with top-p, plainly: alone, one token
per step, two threads, no head, nothing in the prefix cache. Then again in every other way that
nextn can write it, with the model's prediction head if it has one; all must be equal to the last
bit: drafts at every fixed depth and at the automatic one, one thread, in steps with seven other
sequences, with the prompt read in chunks of 1, 7 and 64, and after a prefix-cache hit. Every fourth
prompt is long, up to 700 tokens.

    python benchmarks/same_text.py smollm2 --prompts 40 --tokens 256
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

from machine import write_result
from nextn.backends import BLOCK_TOKENS, CACHE_TYPES, Executor
from nextn.engine import Engine, GenerationRequest
from nextn.model import Model, load
from nextn.sampling import SamplingParams
from nextn.text.tokenizer import Tokenizer
from prompts import VARIED

CONTEXT = 8192  # so that the cache has room for the prefixes of all
TOGETHER = 8
SAMPLING = (
    SamplingParams(temperature=0.0, logprobs=0),
    SamplingParams(temperature=0.3, top_p=0.95, seed=1, logprobs=0),
    SamplingParams(temperature=0.8, top_p=0.95, seed=2, logprobs=0),
    SamplingParams(temperature=1.2, top_p=0.95, seed=3, logprobs=0),
)


@dataclass(frozen=True)
class Way:
    """One way to write the same text."""

    name: str
    draft: int | str = "off"
    threads: int = 2
    together: int = TOGETHER
    prompt_chunk: int = 512
    repeat: bool = False  # write everything twice with one engine, and compare the second time


WAYS = (
    Way("automatic depth, alone", draft="auto", together=1),
    Way("no drafts, with 7 others"),
    *(Way(f"depth {depth}, with 7 others", draft=depth) for depth in range(1, 9)),
    Way("automatic depth, with 7 others", draft="auto"),
    Way("one thread", threads=1),
    Way("one thread, depth 4", threads=1, draft=4),
    *(Way(f"prompt chunks of {n}", prompt_chunk=n) for n in (1, 7, 64)),
    Way("prefix-cache hit, depth 3", draft=3, repeat=True),
)

Written = list[tuple[tuple[int, ...], tuple[float | None, ...]]]


def write(engine: Engine, requests: list[GenerationRequest], *, hits: bool = False) -> Written:
    """Run all requests; token ids and log probabilities of each.

    Args:
        engine: writes them.
        requests: what to write.
        hits: whether each prompt of more than a block must be found in the prefix cache.
    """
    sequences = [engine.submit(request) for request in requests]
    tokens: dict[int, list[int]] = {sequence.id: [] for sequence in sequences}
    logprobs: dict[int, list[float | None]] = {sequence.id: [] for sequence in sequences}
    while engine.running or engine.waiting:
        for event in engine.step():
            if event.token is None:
                raise RuntimeError(f"a sequence failed: {event.error}")
            tokens[event.sequence.id].append(event.token.id)
            logprobs[event.sequence.id].append(event.token.logprob)
    for sequence in sequences:
        statistics = sequence.statistics
        if hits and statistics.prompt_tokens > BLOCK_TOKENS and not statistics.cached_tokens:
            raise RuntimeError("a prompt was not found in the prefix cache")
    return [(tuple(tokens[s.id]), tuple(logprobs[s.id])) for s in sequences]


def long_prompt(number: int) -> str:
    """Many questions at once."""
    parts = [VARIED[(number + index) % len(VARIED)] for index in range(2 + number)]
    return "Answer each of these in one sentence.\n" + "\n".join(parts)


def make_requests(
    tokenizer: Tokenizer, checkpoint_template: str | None, prompts: int, tokens: int
) -> list[GenerationRequest]:
    """All prompts with each sampling; no end tokens, so that all lengths agree."""
    texts = [
        long_prompt(number) if number % 4 == 3 else text
        for number, text in enumerate(VARIED[:prompts])
    ]
    if checkpoint_template is not None:
        texts = [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in texts]
    prompts_tokens = [tuple(tokenizer.encode(text, parse_special=True)) for text in texts]
    return [
        GenerationRequest(prompt=list(prompt), sampling=sampling, max_tokens=tokens, draft="off")
        for sampling in SAMPLING
        for prompt in prompts_tokens
    ]


def open_model(arguments: argparse.Namespace, threads: int, head: str) -> Model:
    """Load the model, with room for all sequences and prefixes of a way."""
    return load(
        arguments.model,
        threads=threads,
        context=CONTEXT,
        cache_type=arguments.cache_type,
        max_sequences=TOGETHER,
        head=None if head == "none" else head,
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--prompts", type=int, default=len(VARIED))
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--cache-type", default="f16", choices=CACHE_TYPES)
    parser.add_argument("--head", default="auto", metavar="auto|none|FILE")
    arguments = parser.parse_args()
    models = {threads: open_model(arguments, threads, arguments.head) for threads in (1, 2)}
    alone = open_model(arguments, 2, "none")
    tokenizer, checkpoint, head = alone.tokenizer, alone.checkpoint, models[2].head
    requests = make_requests(
        tokenizer, checkpoint.chat_template, arguments.prompts, arguments.tokens
    )

    lengths = sorted(len(request.prompt) for request in requests)
    found = "no head" if head is None else f"a head {head.origin}"
    print(f"{found}; prompts of {lengths[0]} to {lengths[-1]} tokens", flush=True)

    def make_engine(way: Way, executor: Executor | None = None) -> Engine:
        return Engine(
            executor or models[way.threads].executor,
            tokenizer,
            prompt_chunk=way.prompt_chunk,
            shared_prompt_chunk=way.prompt_chunk,
            max_sequences=way.together,
        )

    def run(way: Way) -> tuple[Written, float]:
        engine = make_engine(way)
        wanted = [replace(request, draft=way.draft) for request in requests]
        started = time.perf_counter()
        if not way.repeat:
            written = write(engine, wanted)
        else:
            # So few at a time that the second time finds the blocks of the first.
            written = []
            for at in range(0, len(wanted), TOGETHER):
                part = wanted[at : at + TOGETHER]
                write(engine, [replace(request, max_tokens=1) for request in part])
                written += write(engine, part, hits=True)
        return written, time.perf_counter() - started

    started = time.perf_counter()
    # A new engine for each: nothing is in its prefix cache.
    way = Way("plain", together=1)
    plain = [write(make_engine(way, alone.executor), [each])[0] for each in requests]
    seconds = time.perf_counter() - started
    total = sum(len(tokens) for tokens, _ in plain)
    print(f"{'plain, alone':34} {total} tokens, {total / seconds:.0f} tokens/s", flush=True)
    rows = []
    for way in WAYS:
        written, seconds = run(way)
        pairs = [
            (a, b)
            for (ours, _), (expected, _) in zip(written, plain, strict=True)
            for a, b in zip(ours, expected, strict=True)
        ]
        different = sum(a != b for a, b in pairs)
        logprobs = sum(
            a != b
            for (_, ours), (_, expected) in zip(written, plain, strict=True)
            for a, b in zip(ours, expected, strict=True)
        )
        print(
            f"{way.name:34} {different} different tokens, {logprobs} different log probabilities, "
            f"{len(pairs) / seconds:.0f} tokens/s",
            flush=True,
        )
        rows.append({"way": way.name, "tokens": different, "logprobs": logprobs})
    settings = {
        **vars(arguments),
        "model": Path(arguments.model).stem,
        "head": None if head is None else head.origin,
        "prompt_tokens": [lengths[0], lengths[-1]],
        "tokens_compared_per_way": total,
    }
    name = f"same-text-{Path(arguments.model).stem}"
    if arguments.cache_type != "f16":
        name += f"-{arguments.cache_type}"
    print(write_result(name, {"settings": settings, "differences": rows}))


if __name__ == "__main__":
    main()
