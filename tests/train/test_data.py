"""The trunk writes: texts, hidden states, and what is on the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nextn.backends import BLOCK_TOKENS, Rows, create_executor
from nextn.engine import Engine
from nextn.engine.request import GenerationRequest
from nextn.errors import RequestError
from nextn.files import Checkpoint, open_checkpoint
from nextn.models import load_model_plan
from nextn.plan import fuse
from nextn.prompts import Prompt
from nextn.sampling import SamplingParams
from nextn.text.tokenizer import load_tokenizer
from nextn.train.data import other_texts, write_data
from nextn.train.prompter import make_prompter
from nextn.train.prompts import favour
from nextn.train.shards import StoredText, TextStore
from nextn.train.tasks import FREE
from nextn.train.writer import Task, Writer
from tests.support.tiny_gguf import write_tiny_model
from tests.train.conftest import HELD_OUT, PROMPTS, data_settings


def nothing(*_: object) -> None:
    """No progress."""


def texts_of(
    trunk: Checkpoint, folder: Path, seeds: Sequence[Prompt] = PROMPTS, **changes: object
) -> tuple[list[StoredText], list[StoredText]]:
    stores = write_data(
        trunk,
        (seeds, HELD_OUT),
        data_settings(**changes),
        folder,
        threads=1,
        progress=nothing,
    )
    return stores[0].texts(), stores[1].texts()


def same(one: StoredText, two: StoredText) -> bool:
    return (
        (one.index, one.category, one.written_from) == (two.index, two.category, two.written_from)
        and np.array_equal(one.tokens, two.tokens)
        and np.array_equal(one.hidden, two.hidden)
    )


def test_texts_are_those_of_the_engine(tiny: Checkpoint) -> None:
    executor = create_executor(
        tiny, threads=2, context_length=64, block_count=6, plan=fuse(load_model_plan(tiny, "post"))
    )
    tokenizer = load_tokenizer(tiny.tokenizer)
    tasks = [
        Task(n, "x", list(range(5 + n, 15 + 4 * n)), SamplingParams(temperature=t), 7 + n, 25)
        for n, t in enumerate((0.0, 0.8, 1.2, 0.8, 0.0))
    ]

    class Source:
        def __init__(self) -> None:
            self.waiting = tasks[::-1]

        def next_task(self) -> Task | None:
            return self.waiting.pop() if self.waiting else None

        def finished(self, text):
            return text

    written = list(Writer(executor, tokenizer.end_of_generation, 3).write(Source()))
    assert sorted(text.task.index for text in written) == [0, 1, 2, 3, 4]
    engine = Engine(executor, tokenizer, drafters=[])
    for text in written:
        task = text.task
        sequence = engine.submit(
            GenerationRequest(
                prompt=task.prompt,
                sampling=SamplingParams(temperature=task.params.temperature, seed=task.seed),
                max_tokens=25,
                end_tokens=tokenizer.end_of_generation,
            )
        )
        while sequence.finish_reason is None:
            engine.step()
        assert text.tokens.tolist() == sequence.tokens
    executor.close()


def test_hidden_states_are_those_of_the_whole_text(tiny: Checkpoint, tmp_path: Path) -> None:
    texts, _ = texts_of(tiny, tmp_path / "work")
    executor = create_executor(
        tiny,
        threads=1,
        context_length=512,
        block_count=16,
        plan=fuse(load_model_plan(tiny, "post")),
    )
    assert len(texts) > 10
    for text in texts:
        count = len(text.tokens) - 1
        blocks = np.arange(16, dtype=np.int32)
        rows = Rows(
            np.array(text.tokens[:count]),
            np.arange(count, dtype=np.int32),
            np.zeros(count, np.int32),
            np.zeros(count, np.bool_),
            blocks[None],
        )
        executor.step(rows)
        states = executor.read_hidden(0, blocks).reshape(16 * BLOCK_TOKENS, -1)
        assert np.array_equal(text.hidden[:count], states[:count])
        assert not text.hidden[count].any()
    executor.close()


def test_texts_do_not_depend_on_how_many_are_written_at_a_time(
    tiny: Checkpoint, tmp_path: Path
) -> None:
    one, _ = texts_of(tiny, tmp_path / "a", sequences=1)
    many, _ = texts_of(tiny, tmp_path / "b", sequences=7)
    by_index = {text.index: text for text in many}
    common = [text for text in one if text.index in by_index]
    assert len(common) >= len(one) - 1
    assert all(same(text, by_index[text.index]) for text in common)


def test_broken_off_work_goes_on(tiny: Checkpoint, tmp_path: Path) -> None:
    whole, held_out = texts_of(tiny, tmp_path / "a")
    calls = 0

    def interrupt(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_data(
            tiny,
            (PROMPTS, HELD_OUT),
            data_settings(),
            tmp_path / "b",
            threads=1,
            progress=interrupt,
        )
    kept = len(TextStore(tmp_path / "b/texts", _identity(tmp_path / "b/texts")).indices)
    assert kept == 7 - len(held_out)
    again, held_out_again = texts_of(tiny, tmp_path / "b")
    by_index = {text.index: text for text in whole}
    assert len(again) >= len(whole) - 4
    assert all(same(text, by_index[text.index]) for text in again if text.index in by_index)
    assert all(map(same, held_out, held_out_again))


def _identity(folder: Path) -> dict:
    import json

    return json.loads((folder / "data.json").read_text())


def test_enough_texts_are_left_alone(tiny: Checkpoint, tmp_path: Path) -> None:
    first, _ = texts_of(tiny, tmp_path / "a")
    second, _ = texts_of(tiny, tmp_path / "a", tokens=100)
    assert len(first) == len(second)
    assert sum(text.written for text in first) >= 400


def test_kinds_of_texts(tiny: Checkpoint, tmp_path: Path) -> None:
    texts, held_out = texts_of(tiny, tmp_path / "a", tokens=1500)
    assert {text.category for text in texts} == {"code", "chat", FREE}
    assert [text.category for text in held_out] == ["code"] * 3
    prompter = make_prompter(tiny, load_tokenizer(tiny.tokenizer))
    questions = {prompter.text(t.tokens[: t.written_from].tolist()) for t in texts}
    assert any("code 1" in question for question in questions)


def test_a_favoured_category_has_more_texts(tiny: Checkpoint, tmp_path: Path) -> None:
    seeds = favour(PROMPTS, {"chat": 9})
    texts, _ = texts_of(tiny, tmp_path / "a", seeds, tokens=2500, free_share=0.5)
    counts = Counter(text.category for text in texts)
    assert counts["chat"] > 3 * counts["code"] > 0


def test_other_settings_or_models_are_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    texts_of(tiny, tmp_path / "a")
    with pytest.raises(RequestError, match="made with another free_share; give the same"):
        texts_of(tiny, tmp_path / "a", free_share=0.0)
    write_tiny_model(tmp_path / "other.gguf", "llama", seed=4)
    with pytest.raises(RequestError, match="made with another trunk_tensors"):
        texts_of(open_checkpoint(tmp_path / "other.gguf"), tmp_path / "a")


def test_texts_of_another_training_are_those_that_it_wrote(
    tiny: Checkpoint, tmp_path: Path
) -> None:
    written, _ = texts_of(tiny, tmp_path / "a", seed=7)
    being_written = tmp_path / "a/texts/.shard-00099.part"
    being_written.mkdir()
    read = other_texts(tiny, tmp_path / "a")
    assert being_written.exists()
    assert all(map(same, read, written))
    assert len(read) == len(written)


def test_texts_of_another_model_or_of_none_are_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    texts_of(tiny, tmp_path / "a")
    write_tiny_model(tmp_path / "other.gguf", "llama", seed=4)
    with pytest.raises(RequestError, match="a: holds texts of another model: other trunk_tensors"):
        other_texts(open_checkpoint(tmp_path / "other.gguf"), tmp_path / "a")
    with pytest.raises(RequestError, match="texts: holds no texts of nextn train"):
        other_texts(tiny, tmp_path)
    for wrong, why in (("{", "is not JSON"), ("[]", "is no JSON object")):
        (tmp_path / "a/texts/data.json").write_text(wrong, "utf-8")
        with pytest.raises(RequestError, match=f"data.json: {why}"):
            other_texts(tiny, tmp_path / "a")
        with pytest.raises(RequestError, match=f"data.json: {why}"):
            texts_of(tiny, tmp_path / "a")


def test_a_model_without_template_continues_plain_text(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "base.gguf", "llama", chat_template=None)
    trunk = open_checkpoint(tmp_path / "base.gguf")
    texts, _ = texts_of(trunk, tmp_path / "a")
    prompts = {bytes(t.tokens[: t.written_from].astype(np.int32)) for t in texts}
    tokenizer = load_tokenizer(trunk.tokenizer)
    allowed = {bytes(np.array(tokenizer.encode(p.last), np.int32)) for p in PROMPTS}
    assert prompts <= allowed


def test_a_full_disk_keeps_the_shards_before(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts_of(tiny, tmp_path / "a", tokens=100)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(OSError, match="No space left"):
        texts_of(tiny, tmp_path / "a", tokens=400)
    monkeypatch.undo()
    folder = tmp_path / "a/texts"
    assert [each.name for each in sorted(folder.iterdir())] == ["data.json", "shard-00001"]
    texts, _ = texts_of(tiny, tmp_path / "a", tokens=400)
    assert sum(text.written for text in texts) >= 400


def test_prompts_that_are_too_long_are_said(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "short.gguf", "llama", context_length=20)
    with pytest.raises(RequestError, match="too long"):
        texts_of(open_checkpoint(tmp_path / "short.gguf"), tmp_path / "a")
