"""How long a start takes, and how much memory: `nextn run` as a whole process.

The time goes from the start of the process to the first byte of text, with the model's file in the
page cache. The peak is that of the process's resident memory, the mapped pages of the file
included. The key/value cache is reserved for the whole context, but its memory is used only as the
text grows, so it hardly shows in the peak. Medians; written to results/start-NAME.json.

    python benchmarks/start.py smollm2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from machine import write_result
from nextn.files import open_checkpoint
from nextn.files.sources import resolve
from nextn.text.tokenizer import load_tokenizer

WORDS = "The old man walked slowly down to the harbour, where the boats were waiting for"
PROMPT_TOKENS = 20


def prompt_of(model: str) -> str:
    """A text of exactly `PROMPT_TOKENS` tokens."""
    with open_checkpoint(resolve(model).path) as checkpoint:
        tokenizer = load_tokenizer(checkpoint.tokenizer)
    text = WORDS
    while len(tokenizer.encode(text)) < PROMPT_TOKENS:
        text += " the"
    if len(tokenizer.encode(text)) != PROMPT_TOKENS:
        raise RuntimeError(f"the prompt has {len(tokenizer.encode(text))} tokens")
    return text


def start(model: str, prompt: str, threads: int) -> tuple[float, float, int]:
    """Seconds to the first byte, seconds in all, and the largest resident memory in bytes."""
    command = [sys.executable, "-m", "nextn", "run", model, prompt, "--raw"]
    command += ["--temp", "0", "-n", "2", "--ignore-eos", "-t", str(threads), "--quiet"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    first_byte = os.read(process.stdout.fileno(), 1)
    first = time.perf_counter() - started
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status or not first_byte:
        raise RuntimeError(f"{' '.join(command)} failed")
    return first, time.perf_counter() - started, usage.ru_maxrss * 1024


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    prompt = prompt_of(arguments.model)
    runs = [start(arguments.model, prompt, arguments.threads) for _ in range(arguments.rounds + 1)][
        1:
    ]
    first, whole, peak = (statistics.median(column) for column in zip(*runs, strict=True))
    shown = subprocess.run(
        [sys.executable, "-m", "nextn", "show", arguments.model, "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    file_bytes = resolve(arguments.model).path.stat().st_size
    results = {
        "prompt_tokens": PROMPT_TOKENS,
        "seconds_to_first_token": round(first, 3),
        "seconds_of_the_process": round(whole, 3),
        "peak_resident_bytes": int(peak),
        "file_bytes": file_bytes,
        "reserved_cache_bytes": json.loads(shown.stdout)["memory"]["cache"],
        "peak_over_file": round(peak / file_bytes, 2),
    }
    print(results)
    print(write_result(f"start-{arguments.model}", {"settings": vars(arguments), **results}))


if __name__ == "__main__":
    main()
