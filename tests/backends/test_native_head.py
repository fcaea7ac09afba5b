"""The native executor with a head: against the reference, and against itself, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextn import _native
from nextn.backends import CACHE_TYPES, Chains
from nextn.models import load_model_plan
from nextn.plan import assign_buffers, fuse
from tests.backends.heads import block_tables, chains_of, executor_of, fill, headed_model, rows_of
from tests.support.tiny_gguf import TinyHead

TOKENS = [(7 * i * i + 3 * i + 11) % 300 for i in range(150)]
FAMILIES = ["llama", "gemma3", "qwen3", "qwen2"]


def drafted_after(executor: Any, tokens: list[int], depth: int, **settings: Any) -> Any:
    rows = rows_of([(0, len(tokens) - 1, tokens[-1:])], wanted=[0])
    return executor.draft(rows, chains_of([depth], **settings))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kernels", _native.available_kernels())
@pytest.mark.parametrize(
    "head",
    [
        TinyHead(),
        TinyHead(hidden_kind="pre", own_norm=False),
        TinyHead(draft_vocab=range(0, 320, 3)),
        TinyHead(own_output=True, own_table=True),
    ],
    ids=lambda head: f"{head.hidden_kind},{head.draft_vocab},{head.own_output}",
)
def test_drafts_are_those_of_the_reference(
    family: str, kernels: str, head: TinyHead, tmp_path: Path
) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", family, head)
    with executor_of(model, "reference") as executor:
        fill(executor, TOKENS[:70])
        expected = drafted_after(executor, TOKENS[:70], 4)
    with executor_of(model, "cpu", kernels=kernels) as executor:
        fill(executor, TOKENS[:70], [17, 1])
        got = drafted_after(executor, TOKENS[:70], 4)
    assert got.counts.tolist() == [4]
    assert got.tokens[0, 0] == expected.tokens[0, 0]
    # Keys and values are kept in float16.
    same = int(np.argmax(np.append(got.tokens[0] != expected.tokens[0], True)))
    assert same >= 3
    np.testing.assert_allclose(
        got.probabilities[0, :same], expected.probabilities[0, :same], rtol=0.05
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
@pytest.mark.parametrize("kind", ["post", "pre"])
def test_the_logits_of_the_trunk_are_the_same_bits_with_and_without_a_head(
    family: str, cache_type: str, kind: Any, tmp_path: Path
) -> None:
    sizes = {"hidden": 128, "head_dim": 32, "types": {"ffn_down": "Q8_0", "attn_q": "F16"}}
    model, _ = headed_model(tmp_path / "a.gguf", family, TinyHead(hidden_kind=kind), **sizes)
    plain = replace(model, trunk=load_model_plan(model.file))
    results = []
    for each, with_head in ((plain, False), (model, False), (model, True)):
        with executor_of(each, "cpu", with_head=with_head, cache_type=cache_type) as executor:
            logits = []
            for position, size in ((0, 40), (40, 1), (41, 5), (46, 100)):
                rows = rows_of([(1, position, TOKENS[position : position + size])])
                rows.wants_logits[:] = True
                logits.append(executor.step(rows).copy())
                if with_head:
                    # Drafts write beyond the text, where the trunk writes later.
                    rows.wants_logits[:-1] = False
                    executor.draft(rows, chains_of([6]))
            results.append(np.concatenate(logits))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.usefixtures("many_cores")
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunks=st.lists(st.integers(1, 64), min_size=1, max_size=5),
    threads=st.sampled_from([1, 2, 3, 7]),
    length=st.integers(2, len(TOKENS)),
    cache_type=st.sampled_from(CACHE_TYPES),
)
def test_drafts_do_not_depend_on_chunks_or_threads(
    chunks: list[int], threads: int, length: int, cache_type: str, tmp_path: Path
) -> None:
    sizes = {"hidden": 128, "head_dim": 32}
    model, _ = headed_model(tmp_path / "tiny.gguf", "gemma3", TinyHead(), **sizes)
    text = TOKENS[:length]
    results = []
    for each, count in (([1] * 30 + [37], 1), (chunks, threads)):
        with executor_of(model, "cpu", threads=count, cache_type=cache_type) as executor:
            fill(executor, text, each)
            results.append(drafted_after(executor, text, 5))
    for name in ("tokens", "chances", "probabilities", "counts"):
        np.testing.assert_array_equal(*(getattr(result, name) for result in results))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_chain_drafts_the_same_alone_and_beside_others(
    temperature: float, tmp_path: Path
) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "qwen3", TinyHead(draft_vocab=range(0, 320, 2)))
    texts = [TOKENS[:60], TOKENS[20:27], TOKENS[9:121]]
    sampling = {"temperature": temperature, "top_k": 40, "top_p": 0.9, "min_p": 0.05}
    alone = []
    for slot, text in enumerate(texts):
        with executor_of(model, "cpu") as executor:
            executor.step(rows_of([(slot, 0, text[:-1])]))
            rows = rows_of([(slot, 0, text)], wanted=[slot])
            alone.append(executor.draft(rows, chains_of([4], seeds=slot, **sampling)))
    with executor_of(model, "cpu") as executor:
        executor.step(rows_of([(slot, 0, text[:-1]) for slot, text in enumerate(texts)]))
        rows = rows_of([(slot, 0, text) for slot, text in enumerate(texts)], wanted=[0, 1, 2])
        together = executor.draft(rows, chains_of([4, 2, 3], seeds=[0, 1, 2], **sampling))
    for i, depth in enumerate((4, 2, 3)):
        assert together.counts[i] == depth
        for name in ("tokens", "chances", "probabilities"):
            np.testing.assert_array_equal(
                getattr(together, name)[i, :depth], getattr(alone[i], name)[0, :depth]
            )


def test_rejected_drafts_leave_no_trace(tmp_path: Path) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead())
    with executor_of(model, "cpu") as executor:
        fill(executor, TOKENS, [1])
        expected = drafted_after(executor, TOKENS, 6)
    with executor_of(model, "cpu") as executor:
        for length in range(1, len(TOKENS)):
            rows = rows_of([(0, length - 1, TOKENS[length - 1 : length])], wanted=[0])
            executor.draft(rows, chains_of([5]))
            # The trunk computes the row, and three wrong ones after it.
            wrong = [(token + 1) % 300 for token in TOKENS[length : length + 3]]
            executor.step(rows_of([(0, length - 1, [TOKENS[length - 1], *wrong])]))
        got = drafted_after(executor, TOKENS, 6)
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    np.testing.assert_array_equal(got.probabilities, expected.probabilities)


def test_a_head_that_copies_its_trunk_foresees_it(tmp_path: Path) -> None:
    head = TinyHead(noise=0.0)
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", head, layers=1, hidden=128, heads=8)
    with executor_of(model, "cpu") as executor:
        fill(executor, TOKENS[:50])
        drafted = drafted_after(executor, TOKENS[:50], 8).tokens[0].tolist()
        rows = rows_of([(0, 49, [TOKENS[49], *drafted])])
        rows.wants_logits[:] = True
        assert executor.step(rows).argmax(axis=1).tolist()[:-1] == drafted


def test_the_settings_of_sampling_reach_the_draft(tmp_path: Path) -> None:
    """Each chain gets what `choose_draft` chooses from the reference's logits."""
    ids = tuple(range(3, 320, 4))
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead(draft_vocab=ids))
    found = set()
    with executor_of(model, "cpu") as native, executor_of(model, "reference") as reference:
        for executor in (native, reference):
            fill(executor, TOKENS[:30])
        for seed in range(40):
            sampling = {"temperature": 1.5, "top_k": 20, "min_p": 0.02, "seeds": seed}
            got = drafted_after(native, TOKENS[:30], 1, **sampling)
            expected = drafted_after(reference, TOKENS[:30], 1, **sampling)
            assert got.tokens.tolist() == expected.tokens.tolist()
            found.add(got.tokens.item())
    assert found <= set(ids)
    assert len(found) > 5


def test_the_head_is_packed_with_few_rows_of_the_output_matrix(tmp_path: Path) -> None:
    sizes = []
    for count in (320, 32):
        head = TinyHead(draft_vocab=range(count))
        model, _ = headed_model(tmp_path / f"{count}.gguf", "llama", head)
        with executor_of(model, "cpu") as executor:
            sizes.append(executor._native.weight_bytes)
    # With all tokens the trunk's own matrix serves the head, too.
    assert sizes[1] - sizes[0] == 32 * 64 * 4


def test_a_plan_with_a_head_needs_no_more_buffers_of_a_width_than_either(tmp_path: Path) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead())
    with executor_of(model, "cpu") as executor:
        widths = [width for width, _ in executor._buffers]
    each = [assign_buffers(fuse(plan)).widths for plan in (model.trunk, model.head)]
    for width in set(widths):
        assert widths.count(width) == max(part.count(width) for part in each)


def test_filling_the_cache_drafts_nothing(tmp_path: Path) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead())
    with executor_of(model, "cpu") as executor:
        rows = rows_of([(0, 0, TOKENS[:20])])
        executor.step(rows)
        drafted = executor.draft(rows, Chains.none())
    assert drafted.tokens.shape == (0, 0)
    assert block_tables().shape == (3, 12)
