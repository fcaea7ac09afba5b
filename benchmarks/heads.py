"""What a prediction head brings and costs, against plain decoding and against llama.cpp.

Every prompt is written in several ways, which take turns: plainly; with the head loaded but
drafts off; with the head; with a sabotaged head (random weights of the same size); and with a head
for another model (the same one, for a model whose hidden elements have another order). All texts
must be equal. llama.cpp decodes tokens after the same prompt, as many, one by one; choosing them is
not part of its time. Then prompts of 512 tokens are read with the head and without. Prints speeds
after the first token, pooled over all texts, and writes results/heads-NAME.json.

    python benchmarks/heads.py smollm2
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nextn
from machine import write_result
from nextn.files import open_checkpoint
from nextn.files.sources import resolve
from nextn.models.head_tensors import trunk_blocks
from nextn.models.nextn_head import (
    OUTPUT_KEY,
    OUTPUT_OF_TRUNK,
    draft_vocabulary_name,
    load_head_plan,
    own_output_name,
)
from nextn.prompts import CATEGORIES
from nextn.prompts import load as load_prompts
from nextn.train.export import export_head
from peers import VARIANTS
from workers import Worker, WorkerError

Floats = NDArray[np.float32]
CONTEXT = 2048
PROMPT = 512
LLAMA = "llama.cpp"
WAYS = {
    "plain": ("none", "off"),
    "head, drafts off": ("head", "off"),
    "head": ("head", "auto"),
    "sabotaged head": ("sabotaged", "auto"),
    "head of another model": ("other", "auto"),
}
"""Ways to write: the model that is loaded, and the draft setting."""

_READS_HIDDEN = ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up")
_WRITES_HIDDEN = ("attn_output", "ffn_down")


def sabotaged(name: str, values: Floats, rng: np.random.Generator) -> Floats:
    """Noise of the same size."""
    del name
    return (values.std() * rng.standard_normal(values.shape)).astype(np.float32)


def reordered(name: str, values: Floats, rng: np.random.Generator) -> Floats:
    """The same weights for hidden elements in another order, which is the same in every tensor."""
    del rng
    role = name.split(".", 2)[2].removesuffix(".weight")
    if role == "nextn.eh_proj":
        order = _order(values.shape[0])
        return values[order][:, np.concatenate((order, order + values.shape[0]))]
    if role in _READS_HIDDEN:
        return values[:, _order(values.shape[1])]
    if role in _WRITES_HIDDEN or role.endswith("norm"):
        return values[_order(values.shape[0])]
    raise ValueError(f"{name}: how it meets the hidden state is not known here")


def _order(size: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).permutation(size)


def write_changed(
    model: str, head: Path, target: Path, change: Callable[[str, Floats, Any], Floats]
) -> None:
    """Write a head whose weights are changed."""
    with open_checkpoint(resolve(model).path) as trunk, open_checkpoint(head) as file:
        headed = load_head_plan(trunk, file)
        blocks = trunk_blocks(trunk)
        left_out = {draft_vocabulary_name(blocks)}
        if file.string(OUTPUT_KEY, "") == OUTPUT_OF_TRUNK:
            left_out.add(own_output_name(blocks))
        rng = np.random.default_rng(0)
        values = {
            name: change(name, file.tensors[name].decode(), rng)
            for name in headed.tensors
            if name not in left_out
        }
        ids = headed.head.token_ids or tuple(range(headed.trunk.vocab_size))
        export_head(target, trunk, values, np.array(ids, np.int32))


class Llama:
    """Plain decoding by llama.cpp, in the faster of its ways."""

    def __init__(self, path: Path, threads: int) -> None:
        self._workers = [
            Worker(LLAMA, path=str(path), threads=threads, **settings)
            for settings in VARIANTS[LLAMA].values()
        ]
        if len(self._workers) > 1:
            trial = [self._seconds(worker, list(range(1000, 1064)), 32) for worker in self._workers]
            best = self._workers[int(np.argmin(trial))]
            for worker in self._workers:
                if worker is not best:
                    worker.stop()
            self._workers = [best]

    def seconds(self, prompt: list[int], count: int) -> float:
        """Time of `count` steps of one token after the prompt."""
        return self._seconds(self._workers[0], prompt, count)

    def stop(self) -> None:
        """End the process."""
        self._workers[0].stop()

    def _seconds(self, worker: Worker, prompt: list[int], count: int) -> float:
        number = worker.open(context=CONTEXT, sequences=1, cache_type="f16", rollback=False)
        worker.fill(number, [prompt])
        times = worker.time(
            number, [prompt[:1]], len(prompt), logits=1, repeats=count, advance=True
        )
        worker.close(number)
        worker.wait_until_idle()
        return sum(times)


def write_texts(
    models: dict[str, nextn.Model], llama: Llama | None, arguments: argparse.Namespace
) -> dict[str, dict[str, tuple[int, float]]]:
    """Tokens after the first, and seconds, by category and way."""
    totals: dict[str, dict[str, tuple[int, float]]] = {}
    turn = 0
    for category in CATEGORIES:
        counted = totals[category] = {}
        for prompt in load_prompts("evaluation", [category])[: arguments.prompts]:
            names = list(WAYS)
            shift = turn % len(names)
            texts = {}
            tokens = models["none"].chat_prompt(prompt.messages)
            for name in names[shift:] + names[:shift]:
                which, draft = WAYS[name]
                model = models[which]
                model.engine.cache.reset()
                done = model.generate(
                    tokens,
                    draft=draft,
                    max_tokens=arguments.tokens,
                    temperature=arguments.temp,
                    seed=turn,
                )
                texts[name] = tuple(done.tokens)
                _add(counted, name, len(done.tokens) - 1, done.statistics.writing_seconds)
            if len(set(texts.values())) != 1:
                raise RuntimeError(f"the texts of prompt {turn} differ")
            later = len(texts["plain"]) - 1
            if llama is not None and later:
                _add(counted, LLAMA, later, llama.seconds(tokens, later))
            turn += 1
        print(f"{category:12} {_line(counted)}", flush=True)
    return totals


def _add(counted: dict[str, tuple[int, float]], name: str, tokens: int, seconds: float) -> None:
    before = counted.get(name, (0, 0.0))
    counted[name] = before[0] + tokens, before[1] + seconds


def _line(counted: dict[str, tuple[int, float]]) -> str:
    tokens, seconds = counted["plain"]
    plain = tokens / seconds
    return f"{plain:.0f} tokens/s; " + ", ".join(
        f"{name} {tokens / seconds / plain:.3f} x"
        for name, (tokens, seconds) in counted.items()
        if name != "plain"
    )


def read_prompts(models: dict[str, nextn.Model], rounds: int) -> dict[str, float]:
    """Seconds for a prompt of PROMPT tokens and two more: with and without the head."""
    times: dict[str, list[float]] = {"none": [], "head": []}
    tokens = np.random.default_rng(0).integers(1000, 20000, PROMPT).tolist()
    for turn in range(rounds + 1):
        for which in ("none", "head") if turn % 2 else ("head", "none"):
            models[which].engine.cache.reset()
            # Two tokens: the head reads the prompt after the trunk, before the second one.
            started = time.perf_counter()
            models[which].generate(tokens, max_tokens=2, temperature=0.0, draft="auto")
            if turn:
                times[which].append(time.perf_counter() - started)
    return {
        "median_without": statistics.median(times["none"]),
        "median_with": statistics.median(times["head"]),
        "minimum_without": min(times["none"]),
        "minimum_with": min(times["head"]),
        "median_ratio": statistics.median(
            with_head / without
            for with_head, without in zip(times["head"], times["none"], strict=True)
        ),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--head", default="auto", metavar="auto|FILE")
    parser.add_argument("--prompts", type=int, default=4, help="of each category")
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--temp", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40, help="of the prompts of 512 tokens")
    parser.add_argument("--name", help="of the result; by default the model's")
    arguments = parser.parse_args()

    def open_model(head: str | Path | None) -> nextn.Model:
        return nextn.load(
            arguments.model, threads=arguments.threads, context=CONTEXT, max_sequences=1, head=head
        )

    with tempfile.TemporaryDirectory() as folder:
        models = {"none": open_model(None), "head": open_model(arguments.head)}
        found = models["head"].head
        if found is None:
            raise SystemExit(f"{arguments.model} has no head")
        for name, change in (("sabotaged", sabotaged), ("other", reordered)):
            target = Path(folder) / f"{name}.gguf"
            write_changed(arguments.model, found.path, target, change)
            models[name] = open_model(target)
        try:
            llama = Llama(resolve(arguments.model).path, arguments.threads)
        except WorkerError as error:
            print(f"left out: {error}")
            llama = None
        totals = write_texts(models, llama, arguments)
        prompts = read_prompts(models, arguments.rounds)
        if llama is not None:
            llama.stop()
        useless = {
            name: None if (it := models[name].engine.useless) is None else it.drafts
            for name in ("head", "sabotaged", "other")
        }
        for model in models.values():
            model.close()
    pooled: dict[str, tuple[int, float]] = {}
    for counted in totals.values():
        for name, (tokens, seconds) in counted.items():
            _add(pooled, name, tokens, seconds)
    print(f"{'all':12} {_line(pooled)}")
    print(f"prompts of {PROMPT}: {prompts}; given up after so many drafts: {useless}")
    totals["all"] = pooled
    result = {
        category: {
            name: {"tokens": tokens, "seconds": round(seconds, 4)}
            for name, (tokens, seconds) in counted.items()
        }
        for category, counted in totals.items()
    }
    name = arguments.name or Path(arguments.model).stem
    settings = {**vars(arguments), "head": found.origin}
    written = {"settings": settings, "texts": result, "prompts": prompts, "given_up": useless}
    print(write_result(f"heads-{name}", written))


if __name__ == "__main__":
    main()
