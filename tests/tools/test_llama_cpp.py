"""What llama.cpp makes of the files that are written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextn.tools.attach import attach_beside, attach_head
from nextn.tools.detach import detach_head
from tests.support.tiny_families import write_tiny_qwen35
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

llama_cpp = pytest.importorskip("llama_cpp")

PROMPT = [5, 9, 40, 77]


def tokens(path: Path) -> list[int]:
    """What llama.cpp writes."""
    model = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, n_threads_batch=1, verbose=False)
    found = []
    for token in model.generate(PROMPT, temp=0):
        found.append(token)
        if len(found) == 16:
            break
    model.close()
    return found


@pytest.mark.parametrize("experts", [False, True])
def test_it_writes_the_same_with_and_without_a_head_that_it_knows(
    tmp_path: Path, experts: bool
) -> None:
    model, plain, head = (tmp_path / f"{name}.gguf" for name in ("model", "plain", "head"))
    write_tiny_qwen35(model, experts=experts, types="Q8_0")
    expected = tokens(model)
    detach_head(model, plain, head_output=head)
    assert tokens(plain) == expected
    # Other weights, another quantisation: the trunk's, whose head came from elsewhere.
    trunk = tmp_path / "trunk.gguf"
    write_tiny_qwen35(trunk, experts=experts, head=False, seed=5, types="Q4_0")
    expected = tokens(trunk)
    attach_head(trunk, head, tmp_path / "out.gguf")
    assert tokens(tmp_path / "out.gguf") == expected


def test_it_reads_a_model_in_parts(tmp_path: Path) -> None:
    write_tiny_qwen35(tmp_path / "model.gguf")
    write_tiny_qwen35(tmp_path / "parts.gguf", tensors_per_part=20)
    first = detach_head(tmp_path / "parts-00001-of-00004.gguf", tmp_path / "plain.gguf").paths[0]
    assert tokens(first) == tokens(tmp_path / "model.gguf")


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "qwen2"])
def test_it_refuses_a_head_in_a_family_without_heads_as_the_note_says(
    tmp_path: Path, family: str
) -> None:
    trunk, head = tmp_path / "trunk.gguf", tmp_path / "head.gguf"
    write_tiny_model(trunk, family)
    write_tiny_head(head, family, TinyHead())
    expected = tokens(trunk)
    result = attach_head(trunk, head, tmp_path / "out.gguf")
    assert any("llama.cpp does not load" in note for note in result.notes)
    with pytest.raises(ValueError, match="Failed to load model"):
        tokens(tmp_path / "out.gguf")
    attach_beside(trunk, head)
    assert tokens(trunk) == expected
    # Taken out again, the model loads as before.
    detach_head(tmp_path / "out.gguf", tmp_path / "plain.gguf")
    assert tokens(tmp_path / "plain.gguf") == expected
