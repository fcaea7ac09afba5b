"""Fuzz target: a model file, from its first byte to a step of the model that it describes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz.instrument import instrumented

with instrumented("nextn"):
    import nextn.cli.model_facts as model_facts
    from nextn.backends import BLOCK_TOKENS, Chains, Rows, create_executor
    from nextn.files import Checkpoint, open_checkpoint
    from nextn.heads import find_head
    from nextn.models import load_model_plan
    from nextn.plan import fuse

import numpy as np

from fuzz.gguf_mutator import mutate
from fuzz.harness import WrongResultError, start
from nextn.errors import NextnError, UnsupportedModelError

MOST_BYTES = 1 << 20
"""Weights of a model that is loaded and stepped."""

_FOLDER = Path(tempfile.mkdtemp(prefix="nextn-fuzz-"))


def _read_everything(checkpoint: Checkpoint) -> None:
    getters = (
        checkpoint.integer,
        checkpoint.number,
        checkpoint.boolean,
        checkpoint.string,
        checkpoint.integers,
        checkpoint.numbers,
        checkpoint.strings,
    )
    for key in list(checkpoint.metadata):
        for getter in getters:
            try:
                getter(key)
            except NextnError:
                continue
    for tensor in checkpoint.tensors.values():
        if tensor.nbytes > MOST_BYTES:
            raise WrongResultError(f"{tensor.nbytes} bytes in a file of fewer")
        try:
            tensor.check_finite()
            tensor.decode()
        except NextnError:
            continue
        if tensor.decode().shape != tensor.shape:
            raise WrongResultError("decoded to another shape")
        if len(tensor.shape) == 2:
            tensor.decode_rows([tensor.shape[0] - 1])
    for read in (lambda: checkpoint.chat_template, lambda: checkpoint.tokenizer):
        try:
            read()
        except NextnError:
            continue
    model_facts.read_facts(checkpoint)


def _run_model(checkpoint: Checkpoint) -> None:
    headed = find_head(checkpoint, published=None).model
    plan = fuse(load_model_plan(checkpoint) if headed is None else headed.trunk)
    head = None if headed is None else fuse(headed.head)
    if sum(weight.rows * weight.columns for weight in plan.weights) > MOST_BYTES:
        return
    rows = Rows(
        np.array([0, plan.vocab_size - 1, 0], np.int32),
        np.array([0, 1, BLOCK_TOKENS - 1], np.int32),
        np.array([1, 1, 0], np.int32),
        np.array([False, True, True]),
        np.array([[2], [1]], np.int32),
    )
    for backend in ("cpu", "reference"):
        with np.errstate(all="ignore"):  # weights of any size may overflow
            try:
                executor = create_executor(
                    checkpoint if headed is None else headed.checkpoint,
                    backend=backend,
                    threads=1,
                    context_length=BLOCK_TOKENS,
                    block_count=3,
                    max_rows=4,
                    plan=plan,
                    head=head,
                )
            except UnsupportedModelError:
                continue
            if executor.step(rows).shape != (2, plan.vocab_size):
                raise WrongResultError("logits of another shape")
            if head is not None:
                rows.wants_logits[:] = False
                executor.draft(rows, Chains.none())
                rows.wants_logits[:] = True
            executor.close()


def test_one_input(content: bytes) -> None:
    """Read a file and run what it describes."""
    path = _FOLDER / "model.gguf"
    # A new file each time: the mapping of the last one may still be alive.
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    with open_checkpoint(path) as checkpoint:
        _read_everything(checkpoint)
        _run_model(checkpoint)


if __name__ == "__main__":
    start(test_one_input, mutate)
