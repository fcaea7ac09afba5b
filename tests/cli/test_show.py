from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

import nextn
from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model


def record(cli: RunCli, *arguments: object) -> dict[str, Any]:
    result = cli("show", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def add_head(source: Path, target: Path, *, declared: int | None, tensors: bool) -> None:
    """A copy of a model with a declaration or the tensors of a prediction head, or both."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for key in ("block_count", "context_length", "embedding_length"):
        writer.add_uint32(f"llama.{key}", int(reader.fields[f"llama.{key}"].contents()))
    if declared is not None:
        writer.add_uint32("llama.nextn_predict_layers", declared)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    if tensors:
        kind = GGMLQuantizationType.F32
        for name in ("nextn.eh_proj", "nextn.enorm", "attn_norm"):
            writer.add_tensor(f"blk.2.{name}.weight", np.zeros((2, 64), np.float32), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_facts_are_those_of_the_file(cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    types = {"ffn_down": "Q8_0", "ffn_up": "Q8_0", "ffn_gate": "Q4_0", "default": "F16"}
    weights = write_tiny_model(path, "qwen3", types=types)
    found = record(cli, path)
    assert found["name"] == "model"
    assert found["title"] == "Tiny qwen3"
    assert found["architecture"] == "qwen3"
    assert found["unsupported"] is None
    assert found["parameters"] == sum(values.size for values in weights.values())
    assert found["file_bytes"] == path.stat().st_size
    assert (found["blocks"], found["hidden"], found["feed_forward"]) == (2, 64, 128)
    assert (found["heads"], found["kv_heads"], found["context"]) == (4, 2, 512)
    assert (found["vocabulary"], found["chat_template"]) == (320, True)
    assert (found["tokenizer"], found["pre_tokenizer"]) == ("gpt2", "qwen2")


def test_the_groups_hold_all_tensors_with_their_formats(cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    types = {"ffn_down": "Q8_0", "ffn_up": "Q8_0", "ffn_gate": "Q4_0", "default": "F16"}
    write_tiny_model(path, "qwen3", types=types)
    groups = {group["name"]: group for group in record(cli, path)["groups"]}
    tensors = GGUFReader(path).tensors
    assert sum(group["tensors"] for group in groups.values()) == len(tensors)
    assert sum(group["bytes"] for group in groups.values()) == sum(t.n_bytes for t in tensors)
    assert set(groups) == {"embedding", "attention", "feed-forward", "output", "norms"}
    # Bytes per block of 32: 34 in Q8_0 and 18 in Q4_0; twice each matrix of 128 x 64.
    assert groups["feed-forward"]["types"] == {"Q8_0": 4 * 256 * 34, "Q4_0": 2 * 256 * 18}
    assert groups["feed-forward"]["bits_per_weight"] == pytest.approx((2 * 8.5 + 4.5) / 3)
    assert groups["norms"]["types"] == {"F32": groups["norms"]["bytes"]}


@pytest.mark.parametrize(
    ("declared", "tensors", "status", "said"),
    [
        (None, False, "no", "head           no"),
        (0, False, "no", "head           no"),
        (1, True, "yes", "1 layer, 3 nextn tensors"),
        (1, False, "missing", "declared but missing: llama.nextn_predict_layers says 1 layer"),
        (None, True, "undeclared", "undeclared: 3 nextn tensors"),
    ],
)
def test_a_head_is_never_lost_in_silence(
    cli: RunCli,
    tiny: Path,
    tmp_path: Path,
    declared: int | None,
    tensors: bool,
    status: str,
    said: str,
) -> None:
    path = tmp_path / "head.gguf"
    add_head(tiny, path, declared=declared, tensors=tensors)
    found = record(cli, path)
    assert found["head"]["status"] == status
    assert found["head"]["tensors"] == (3 if tensors else 0)
    assert ("head" in {group["name"] for group in found["groups"]}) == tensors
    assert said in cli("show", path).stdout


def test_the_memory_is_what_loading_takes(cli: RunCli, tiny: Path) -> None:
    memory = record(cli, tiny, "-c", 128)["memory"]
    assert memory["context"] == 128
    assert memory["total"] == memory["weights"] + memory["cache"] + memory["working"]
    # Keys and values: 2 blocks x 2 x 2 heads x 16 elements x 2 bytes.
    assert memory["cache_per_token"] == 2 * 2 * 2 * 16 * 2
    with nextn.load(tiny, context=128, max_sequences=1) as model:
        assert memory["cache"] == model.executor.block_count * 32 * memory["cache_per_token"]


def test_a_context_that_the_model_was_not_trained_for_is_refused(cli: RunCli, tiny: Path) -> None:
    result = cli("show", tiny, "-c", 1000)
    assert result.exit_code == 2
    assert "512" in result.stderr


def test_a_model_that_nextn_cannot_run_is_shown_all_the_same(cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    write_tiny_model(path, "llama", metadata={"general.architecture": "mamba"})
    found = record(cli, path)
    assert found["memory"] is None
    assert "'mamba' is not supported" in found["unsupported"]
    page = cli("show", path).stdout
    assert "runs here      no: general.architecture: 'mamba'" in page
    assert "feed-forward" in page


def test_no_weight_is_read(cli: RunCli, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("nextn.files.tensor.Tensor.data", property(fail))
    assert cli("show", tiny).exit_code == 0


def test_the_page_says_what_people_ask_for(cli: RunCli, tiny: Path, tiny_base: Path) -> None:
    page = cli("show", tiny).stdout
    for part in ("llama", "parameters", "F32", "320 tokens", "512 tokens", "template  yes"):
        assert part in page
    assert "chat template  no" in cli("show", tiny_base).stdout


def test_the_head_that_runs_is_shown_wherever_it_is(
    cli: RunCli, tiny: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    head = TinyHead(draft_vocab=range(100))
    write_tiny_head(alone / "some.gguf", "llama", head)
    write_tiny_model(tmp_path / "both.gguf", "llama", head=head)
    for arguments, where in (
        ((tmp_path / "both.gguf",), "inside the model's file"),
        ((tiny, "--head", alone / "some.gguf"), str(alone / "some.gguf")),
    ):
        page = cli("show", *arguments).stdout
        assert f"head           {where} (1 block, " in page
        assert ", F32, drafts 100 of 320 tokens)" in page
        found = record(cli, *arguments)
        assert found["used_head"]["draft_vocabulary"] == 100
        assert found["used_head"]["bytes"] == sum(
            tensor.n_bytes for tensor in GGUFReader(alone / "some.gguf").tensors
        )
    assert record(cli, tmp_path / "both.gguf", "--head", "none")["used_head"] is None


def test_the_memory_of_a_head_counts(cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "both.gguf"
    write_tiny_model(path, "llama", head=TinyHead())
    without, with_head = (
        record(cli, path, "-c", 128, "--head", head)["memory"] for head in ("none", "auto")
    )
    # Keys and values of one more block, and 64 elements of hidden state; of 2 bytes each.
    assert with_head["cache_per_token"] - without["cache_per_token"] == 2 * (2 * 2 * 16 + 64)
    assert with_head["weights"] > without["weights"]
    assert with_head["working"] > without["working"]
    with nextn.load(path, context=128, max_sequences=1) as model:
        native = model.executor._native
        assert with_head["cache"] == native.cache_bytes
        assert with_head["weights"] >= native.weight_bytes


def test_a_head_that_does_not_fit_is_an_error_only_if_it_was_asked_for(
    cli: RunCli, tiny: Path, tmp_path: Path
) -> None:
    write_tiny_head(tmp_path / "head.gguf", "llama", TinyHead(), layers=3)
    result = cli("show", tiny, "--head", tmp_path / "head.gguf")
    assert result.exit_code == 2
    assert "head.gguf: llama.block_count: a head for a trunk of 3 blocks" in result.stderr
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead(), layers=3)
    page = cli("show", tmp_path / "tiny.gguf").stdout
    assert "head           no" in page
    assert "mtp-tiny.gguf: llama.block_count: a head for a trunk of 3 blocks" in page


def test_the_head_is_shown_in_full(cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    head = TinyHead(draft_vocab=range(50), own_output=True, own_norm=False)
    write_tiny_model(path, "llama", types={"ffn_up": "Q8_0", "default": "F16"}, head=head)
    detail = record(cli, path)["head_detail"]
    expected = {
        tensor.name: (
            [int(size) for size in reversed(tensor.shape)],
            tensor.tensor_type.name,
            int(tensor.n_bytes),
        )
        for tensor in GGUFReader(path).tensors
        if tensor.name.startswith("blk.2.")
    }
    found = {one["name"]: (one["shape"], one["format"], one["bytes"]) for one in detail["tensors"]}
    assert found == expected
    assert (detail["declared"], detail["blocks"], detail["draft_vocabulary"]) == (1, [2], 50)
    owns = [detail[f"own_{part}"] for part in ("embedding", "output", "norm")]
    assert owns == [False, True, False]
    assert detail["bytes"] == sum(size for _, _, size in expected.values())
    page = cli("show", path).stdout
    assert "in block 2 (1 declared)" in page
    assert "the trunk's embedding, its own output matrix, the trunk's last norm" in page
    assert "50 tokens, by its trim list" in page
    assert "blk.2.nextn.eh_proj.weight" in page


def test_a_model_in_a_format_that_is_only_copied_is_shown_as_one_that_cannot_run(
    cli: RunCli, tmp_path: Path
) -> None:
    writer = GGUFWriter(tmp_path / "iq2.gguf", "llama")
    kind = GGMLQuantizationType.IQ2_XXS
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((4, 66), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = record(cli, tmp_path / "iq2.gguf")
    assert "IQ2_XXS is not supported" in found["unsupported"]
    assert found["parameters"] == 4 * 256
