"""Makes the data: the trunk writes, and shards go to the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nextn.backends import BLOCK_TOKENS, Executor, create_executor
from nextn.errors import RequestError
from nextn.files import Checkpoint
from nextn.models import load_model_plan
from nextn.models.nextn_head import vocabulary_hash
from nextn.plan import fuse
from nextn.prompts import Prompt
from nextn.text.tokenizer import load_tokenizer
from nextn.train.prompter import make_prompter
from nextn.train.settings import DataSettings
from nextn.train.shards import StoredText, TextStore
from nextn.train.tasks import HeldOutTasks, Tasks
from nextn.train.writer import TaskSource, Text, Writer

_TEXTS = "texts"
_SHARD_TOKENS = 1 << 15
_MOST_PROMPT = 640
_MAX_ROWS = 256

Progress = Callable[[str, int, int | None], None]
"""Told about an activity, how much of it is done, and how much there is."""


def trunk_identity(trunk: Checkpoint) -> dict[str, Any]:
    """What tells a model from another: its name, shapes, formats, vocabulary and last norm."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.tensors.items()):
        digest.update(f"{name} {tensor.shape} {tensor.block_type.name}\n".encode())
    digest.update(trunk.tensors["output_norm.weight"].data.tobytes())
    return {
        "trunk": trunk.string("general.name", ""),
        "trunk_tensors": digest.hexdigest(),
        "vocabulary": vocabulary_hash(trunk),
    }


def write_data(
    trunk: Checkpoint,
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    settings: DataSettings,
    folder: Path,
    *,
    threads: int | None,
    progress: Progress,
) -> tuple[TextStore, TextStore]:
    """Write what is missing of the texts.

    Args:
        trunk: the model.
        prompts: for training, and held out.
        settings: how many texts of which kind.
        folder: where they go; texts that are there count.
        threads: threads that compute.
        progress: told about tokens.

    Returns:
        The texts to train on, and those for validation.

    Raises:
        RequestError: the folder belongs to another model or other settings.
        OSError: the disk is full, or the like; what was written before is kept.
    """
    training, held_out = prompts
    identity = {**trunk_identity(trunk), **settings.identity(), "prompts": _digest(prompts)}
    texts = TextStore(folder / _TEXTS, identity)
    validation = TextStore(folder / "held-out", identity)
    longest = min(
        _MOST_PROMPT + settings.most_written, trunk.integer("{arch}.context_length", minimum=1)
    )
    tokenizer = load_tokenizer(trunk.tokenizer)
    prompter = make_prompter(trunk, tokenizer)
    ends = tokenizer.end_of_generation
    checks = HeldOutTasks(prompter, held_out, settings, longest=longest, done=validation.indices)
    if texts.written >= settings.tokens and checks.left == 0:
        return texts, validation
    tasks = Tasks(prompter, training, settings, longest=longest, ends=ends, done=texts.indices)
    executor = _executor(trunk, threads, longest, settings.sequences)
    try:
        writer = Writer(executor, ends, settings.sequences)
        _collect(writer, checks, validation, None, "writing held-out texts", progress)
        if texts.written < settings.tokens:
            _collect(writer, tasks, texts, settings.tokens, "writing texts", progress)
    finally:
        executor.close()
    if not validation.written:
        raise RequestError(
            "every held-out prompt is too long for the model, or there is none; give shorter ones "
            "with --prompts"
        )
    return texts, validation


def other_texts(trunk: Checkpoint, work: Path) -> list[StoredText]:
    """The texts that were written for another training of the same model.

    Args:
        trunk: the model.
        work: the work folder of that training; it is only read.

    Raises:
        RequestError: there are no texts in it, or they are of another model.
    """
    store = TextStore.existing(work / _TEXTS)
    different = [
        name for name, value in trunk_identity(trunk).items() if store.identity.get(name) != value
    ]
    if different:
        raise RequestError(f"{work}: holds texts of another model: other {', '.join(different)}")
    return store.texts()


def _collect(
    writer: Writer,
    source: TaskSource,
    store: TextStore,
    target: int | None,
    activity: str,
    progress: Progress,
) -> None:
    """Write until there are `target` tokens; what is complete is kept whatever happens."""
    waiting: list[Text] = []
    pending = 0
    try:
        for text in writer.write(source):
            waiting.append(text)
            pending += len(text.tokens) - text.written_from
            progress(activity, store.written + pending, target)
            if pending >= _SHARD_TOKENS:
                store.add(waiting)
                waiting, pending = [], 0
            if target is not None and store.written + pending >= target:
                return
    finally:
        store.add(waiting)


def _executor(trunk: Checkpoint, threads: int | None, longest: int, sequences: int) -> Executor:
    return create_executor(
        trunk,
        threads=threads,
        context_length=longest,
        block_count=sequences * -(-longest // BLOCK_TOKENS),
        max_rows=max(_MAX_ROWS, sequences),
        plan=fuse(load_model_plan(trunk, "post")),
    )


def _digest(prompts: tuple[Sequence[Prompt], Sequence[Prompt]]) -> str:
    return hashlib.sha256(repr(prompts).encode()).hexdigest()
