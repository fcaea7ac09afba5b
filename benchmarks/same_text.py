"""Promise 1, measured: equal token ids and log probabilities whatever speeds the text up.

Every prompt is continued greedily and at a temperature with three seeds, plainly: alone, one token
per step, two threads, nothing in the prefix cache. Then again in every other way that nextn can
write it, and all must be equal to the last bit: drafts at every fixed depth and at the automatic
one, one thread, in steps with seven other sequences, with the prompt read in chunks of 1, 7 and 64,
and after a prefix-cache hit. Every fourth prompt is long, up to 700 tokens.

    python benchmarks/same_text.py smollm2 --prompts 40 --tokens 256
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

from machine import write_result
from nextn.backends import BLOCK_TOKENS, CACHE_TYPES, Executor, create_executor
from nextn.engine import Engine, GenerationRequest
from nextn.files import open_checkpoint
from nextn.files.sources import resolve
from nextn.sampling import SamplingParams
from nextn.text.tokenizer import Tokenizer, load_tokenizer
from prompts import VARIED

CONTEXT = 1024
TOGETHER = 8
SEEDS = (1, 2, 3)
GREEDY = SamplingParams(temperature=0.0, logprobs=0)
SAMPLED = SamplingParams(temperature=0.8, logprobs=0)


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
    """All prompts, greedy and sampled with each seed; no end tokens, so that all lengths agree."""
    texts = [
        long_prompt(number) if number % 4 == 3 else text
        for number, text in enumerate(VARIED[:prompts])
    ]
    if checkpoint_template is not None:
        texts = [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in texts]
    prompts_tokens = [tuple(tokenizer.encode(text, parse_special=True)) for text in texts]
    settings = [replace(GREEDY, seed=0), *(replace(SAMPLED, seed=seed) for seed in SEEDS)]
    return [
        GenerationRequest(prompt=list(prompt), sampling=sampling, max_tokens=tokens, draft="off")
        for sampling in settings
        for prompt in prompts_tokens
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--prompts", type=int, default=len(VARIED))
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--cache-type", default="f16", choices=CACHE_TYPES)
    arguments = parser.parse_args()
    checkpoint = open_checkpoint(resolve(arguments.model).path)
    tokenizer = load_tokenizer(checkpoint.tokenizer)
    executors: dict[int, Executor] = {
        threads: create_executor(
            checkpoint,
            threads=threads,
            context_length=CONTEXT,
            block_count=(2 * TOGETHER + 1) * CONTEXT // BLOCK_TOKENS,
            cache_type=arguments.cache_type,
        )
        for threads in (1, 2)
    }
    requests = make_requests(
        tokenizer, checkpoint.chat_template, arguments.prompts, arguments.tokens
    )

    lengths = sorted(len(request.prompt) for request in requests)
    print(f"prompts of {lengths[0]} to {lengths[-1]} tokens", flush=True)

    def make_engine(way: Way) -> Engine:
        return Engine(
            executors[way.threads],
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
    plain = [write(make_engine(Way("plain", together=1)), [each])[0] for each in requests]
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
        "prompt_tokens": [lengths[0], lengths[-1]],
        "tokens_compared_per_way": total,
    }
    name = f"same-text-{Path(arguments.model).stem}"
    if arguments.cache_type != "f16":
        name += f"-{arguments.cache_type}"
    print(write_result(name, {"settings": settings, "differences": rows}))


if __name__ == "__main__":
    main()
