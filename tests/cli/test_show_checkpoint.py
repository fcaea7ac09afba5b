from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import RunCli
from tests.support.safetensors_bytes import Given, bfloat16, write_folder, write_safetensors
from tests.support.tiny_checkpoints import tiny_state, write_tiny_checkpoint
from tests.support.tiny_gguf import TinyHead

ONE = np.ones((4, 4), np.float32)


def record(cli: RunCli, *arguments: object) -> dict[str, Any]:
    result = cli("show", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_facts_are_those_of_the_folder(cli: RunCli, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", "qwen3", shards=2)
    state = tiny_state("qwen3")
    found = record(cli, folder)
    assert (found["name"], found["model_type"], found["files"]) == ("tiny", "qwen3", 2)
    assert found["unsupported"] is None
    assert found["parameters"] == sum(values.size for values in state.values())
    assert found["layouts"] == {"F32": sum(values.nbytes for values in state.values())}
    assert (found["blocks"], found["hidden"], found["feed_forward"]) == (2, 64, 128)
    assert (found["heads"], found["kv_heads"], found["context"]) == (4, 2, 512)
    assert (found["vocabulary"], found["tokenizer"]) == (320, "byte-level, qwen2")
    assert found["chat_template"] is True
    assert sum(group["weights"] for group in found["groups"]) == len(state)
    groups = {group["name"] for group in found["groups"]}
    assert groups == {"embedding", "output", "norms", "attention", "feed-forward"}


@pytest.mark.parametrize(
    ("declared", "weights", "status", "said"),
    [
        (None, False, "no", "head           no"),
        (1, True, "yes", "head           1 block, 14 weights ("),
        (1, False, "missing", "declared but missing: num_nextn_predict_layers says 1 block"),
        (None, True, "undeclared", "undeclared: 14 weights ("),
    ],
)
def test_a_head_is_never_lost_in_silence(
    cli: RunCli, tmp_path: Path, declared: int | None, weights: bool, status: str, said: str
) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "tiny",
        "llama",
        head=TinyHead(own_norm=True, own_output=True) if weights else None,
        config={"num_nextn_predict_layers": declared},
    )
    found = record(cli, folder)
    assert found["head"]["status"] == status
    assert len(found["head"]["weights"]) == (14 if weights else 0)
    assert (found["unsupported"] is None) == (status != "missing")
    assert ("head" in {group["name"] for group in found["groups"]}) == weights
    assert said in cli("show", folder).stdout


def test_a_head_of_a_family_that_is_not_known_is_found(cli: RunCli, tmp_path: Path) -> None:
    tensors: dict[str, Given] = {
        "model.language_model.embed_tokens.weight": ONE,
        "model.language_model.layers.0.linear_attn.in_proj_qkv.weight": ONE,
        "model.visual.patch_embed.proj.weight": ONE,
        "mtp.fc.weight": bfloat16(ONE),
    }
    text = {"num_hidden_layers": 1, "mtp_num_hidden_layers": 1}
    config = {"model_type": "qwen3_5", "text_config": text}
    folder = write_folder(tmp_path / "big", tensors, config)
    found = record(cli, folder)
    assert found["head"]["weights"] == ["mtp.fc.weight"]
    assert found["head"]["key"] == "text_config.mtp_num_hidden_layers"
    assert found["head"]["layouts"] == {"BF16": 32}
    page = cli("show", folder).stdout
    assert "converts       no: model_type: 'qwen3_5' is not supported" in page
    assert "other senses" in page


def test_layouts_are_those_on_disk(cli: RunCli, tmp_path: Path) -> None:
    tensors: dict[str, Given] = {
        "model.layers.0.mlp.up_proj.weight": ("F8_E4M3", np.ones((16, 32), np.uint8)),
        "model.layers.0.mlp.up_proj.weight_scale": np.ones((16, 1), np.float32),
        "model.layers.0.mlp.up_proj.input_scale": np.ones(1, np.float32),
        "model.norm.weight": bfloat16(np.ones(32, np.float32)),
    }
    declared = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    folder = write_folder(tmp_path / "q", tensors, {"quantization_config": declared})
    write_safetensors(folder / "mtp.safetensors", {"mtp.fc.weight": ONE})
    page = cli("show", folder).stdout
    assert "quantisation   FP8 per output, BF16, " in page
    assert "declared: compressed-tensors" in page
    assert "left aside     1 scales of activations" in page
    assert "other files    mtp.safetensors" in page
    assert record(cli, folder / "mtp.safetensors")["head"]["status"] == "undeclared"


def test_no_weight_is_read(cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AssertionError("a weight was read")

    folder = write_tiny_checkpoint(tmp_path / "tiny", "gemma3")
    monkeypatch.setattr("nextn.files.safetensors.tensor.StoredTensor.array", property(fail))
    assert cli("show", folder).exit_code == 0


def test_a_broken_checkpoint_is_one_line(cli: RunCli, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", "llama")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    result = cli("show", folder)
    assert result.exit_code == 2
    assert "truncated" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
