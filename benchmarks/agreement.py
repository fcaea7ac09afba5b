"""How near nextn's native executor and llama.cpp are to exact arithmetic on the same file.

Both are compared with nextn's NumPy reference (float32 activations, exact weights) on the same
tokens: mean Kullback-Leibler divergence of the next-token distributions, and how often the most
likely token is the same. The text is this project's own files: prose, code, data, many languages.

    python benchmarks/agreement.py smollm2 --tokens 8000
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from machine import write_result
from nextn.backends import BLOCK_TOKENS, Executor, Rows, create_executor
from nextn.files import open_checkpoint
from nextn.files.sources import resolve
from nextn.text.tokenizer import load_tokenizer
from peers import LlamaCpp

PROJECT = Path(__file__).parent.parent
WINDOW = 512
CHUNK = 64
TEXTS = ("*.md", "docs/*.md", "src/nextn/*/*.py", "native/*/*", "tests/text/data/*", "tests/*/*.py")


def varied_tokens(tokenizer: Any, count: int) -> list[int]:
    """`count` tokens in equal parts from each group of the project's files."""
    share = -(-count // len(TEXTS))
    tokens: list[int] = []
    for pattern in TEXTS:
        text = "\n".join(
            path.read_text(errors="replace")[:4000]
            for path in sorted(PROJECT.glob(pattern))
            if path.is_file()
        )
        tokens += tokenizer.encode(text, add_special=False)[:share]
    if len(tokens) < count:
        raise SystemExit(f"the project's files give only {len(tokens)} of {count} tokens")
    return tokens[:count]


def chunk_logits(executor: Executor, tokens: list[int], position: int) -> NDArray[np.float32]:
    """Logits of every token of a chunk, one sequence, positions from `position` on."""
    count = len(tokens)
    return executor.step(
        Rows(
            np.asarray(tokens, np.int32),
            np.arange(position, position + count, dtype=np.int32),
            np.zeros(count, np.int32),
            np.ones(count, np.bool_),
            np.arange(WINDOW // BLOCK_TOKENS, dtype=np.int32)[None],
        )
    )


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log probabilities in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    path = str(resolve(arguments.model).path)
    checkpoint = open_checkpoint(path)
    tokenizer = load_tokenizer(checkpoint.tokenizer)
    limits = {"context_length": WINDOW, "block_count": WINDOW // BLOCK_TOKENS, "max_rows": CHUNK}
    reference = create_executor(checkpoint, backend="reference", **limits)
    ours = create_executor(checkpoint, threads=arguments.threads, **limits)
    peer = LlamaCpp(path, threads=arguments.threads)
    context = peer.open(context=WINDOW)

    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    tokens = varied_tokens(tokenizer, arguments.tokens)
    divergence: dict[str, list[float]] = {"nextn": [], "llama.cpp": []}
    same_top: dict[str, list[bool]] = {"nextn": [], "llama.cpp": []}
    body = WINDOW - len(start)
    for begin in range(0, len(tokens), body):
        window = start + tokens[begin : begin + body]
        for at in range(0, len(window), CHUNK):
            chunk = window[at : at + CHUNK]
            exact = log_softmax(chunk_logits(reference, chunk, at))
            results = {
                "nextn": chunk_logits(ours, chunk, at),
                "llama.cpp": peer.decode(context, [chunk], at, len(chunk)),
            }
            for name, logits in results.items():
                other = log_softmax(logits)
                divergence[name] += (np.exp(exact) * (exact - other)).sum(axis=-1).tolist()
                same_top[name] += (exact.argmax(axis=-1) == other.argmax(axis=-1)).tolist()
        print(f"\r{min(begin + body, len(tokens))}/{len(tokens)} tokens", end="", flush=True)
    print()
    result = {
        name: {
            "mean_divergence": float(np.mean(divergence[name])),
            "median_divergence": float(np.median(divergence[name])),
            "same_top": float(np.mean(same_top[name])),
        }
        for name in divergence
    }
    for name, figures in result.items():
        print(name, "  ".join(f"{key} {value:.6f}" for key, value in figures.items()))
    settings = {"model": arguments.model, "tokens": arguments.tokens, "window": WINDOW}
    print(write_result(f"agreement-{arguments.model}", {"settings": settings, "results": result}))


if __name__ == "__main__":
    main()
