"""The native executor as an object: threads, processes, and what becomes of its results."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nextn.backends import Executor, create_executor
from nextn.files import open_checkpoint
from tests.backends.synthetic import sequence_rows
from tests.support.tiny_gguf import write_tiny_model


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Executor]:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama")
    with open_checkpoint(path) as checkpoint:
        executor = create_executor(checkpoint, threads=2, context_length=128, block_count=160)
        yield executor
        executor.close()
        executor.close()  # twice is no error


def test_logits_can_still_be_read_after_a_larger_step(executor: Executor) -> None:
    before = executor.step(sequence_rows([1]))
    executor.step(sequence_rows(list(range(60))))
    assert before.shape == (1, executor.vocab_size)
    assert np.isfinite(before).all()


def test_a_forked_process_gets_an_error_and_not_an_endless_wait(executor: Executor) -> None:
    executor.step(sequence_rows([1]))
    child = os.fork()
    if child == 0:
        try:
            executor.step(sequence_rows([1]))
        except RuntimeError as error:
            executor.close()
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_two_steps_at_once_are_refused_or_right(executor: Executor) -> None:
    rows = sequence_rows(list(range(60)))
    expected = executor.step(rows).copy()
    wrong: list[object] = []

    def work() -> None:
        for _ in range(50):
            try:
                executor.step(rows)
            except RuntimeError as error:
                if "another thread" not in str(error):
                    wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    np.testing.assert_array_equal(executor.step(rows), expected)
