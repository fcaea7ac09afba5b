"""The inputs that fuzzing starts from: tiny models of each family, tokenizers, chat templates."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.support.gguf_bytes import (
    BOOL,
    I32,
    STRING,
    U32,
    GgufBytes,
    array_entry,
    number,
    number_entry,
    string,
    tensor_entry,
    text_entry,
)
from tests.support.small_models import small_model
from tests.support.tiny_checkpoints import write_tiny_checkpoint
from tests.support.tiny_gguf import TinyHead, write_tiny_model
from tests.support.tiny_tokenizers import CHATML_TEMPLATE, byte_level_bpe, sentencepiece

from nextn.tools.imatrix import ImatrixSettings, make_imatrix

MOST_INPUT_BYTES = 16_384
"""Larger inputs are cut off."""

F32, TENSOR_I32 = 0, 26
"""Block formats of tensors."""


def checkpoints() -> list[bytes]:
    """Model files."""
    yarn = {
        "rope__scaling__type": "yarn",
        "rope__scaling__factor": 4.0,
        "rope__scaling__original_context_length": 32,
    }
    return [
        GgufBytes().build(),
        small_model("llama"),
        small_model(
            "llama", "F16", rope__dimension_count=8, expert_count=0, nextn_predict_layers=1
        ),
        small_model("llama", "Q4_0", rope__scaling__type="linear", rope__scaling__factor=2.0),
        small_model("gemma3", "F32"),
        small_model("qwen3", "Q4_0", **yarn),
        small_model("qwen2"),
        _model_with_a_head(),
    ]


def _model_with_a_head() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        head = TinyHead(draft_vocab=range(0, 320, 40))
        sizes = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "ffn": 32}
        write_tiny_model(path, "llama", head=head, **sizes)
        return path.read_bytes()


def written() -> list[bytes]:
    """Model files without heads, and a small one with a head in each way that keys can tell it."""
    names = ["token_embd.weight", "blk.0.attn_norm.weight", "blk.1.attn_norm.weight"]
    names += ["blk.2.attn_norm.weight", "blk.2.nextn.enorm.weight", "blk.2.nextn.draft_vocab"]
    kinds = [F32, F32, F32, F32, F32, TENSOR_I32]
    tensors = [
        tensor_entry(name, (8,) if n else (8, 2), kind, n * 64)
        for n, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    keys = [
        text_entry("general.architecture", "llama"),
        text_entry("general.name", "small"),
        number_entry("llama.block_count", U32, 3),
        number_entry("llama.embedding_length", U32, 8),
        number_entry("llama.nextn_predict_layers", U32, 1),
    ]
    lists = [
        array_entry("llama.attention.head_count_kv", I32, [number(I32, n) for n in (0, 1, 2)]),
        array_entry("llama.recurrent", BOOL, [number(BOOL, n) for n in (1, 1, 0)]),
        array_entry("tokenizer.ggml.tokens", STRING, [string("a"), string("b")]),
        text_entry("nextn.head.trunk", "another"),
    ]
    data = bytes(range(8)) * 48
    return [
        *(content for content in checkpoints() if len(content) < MOST_INPUT_BYTES),
        GgufBytes(metadata=keys, tensors=tensors, data=data).build(),
        GgufBytes(metadata=keys[:4] + lists, tensors=tensors, data=data).build(),
        GgufBytes(metadata=keys + lists, tensors=tensors[::-1], data=data).build(),
    ]


def tokenizers() -> list[bytes]:
    """JSON as `target_tokenizer.py` reads it."""
    texts = [[["the rain ", 3], ["\n", 2]], [["<|im_end|>", 1], ["12", 50]], [["\u00e9a'S ", 4]]]
    small_bpe = {
        "model": "gpt2",
        "pre": "default",
        "tokens": ["a", "b", "ab", "\u0120", "\u0120a", "<|im_end|>", "user"],
        "merges": ["a b", "\u0120 a"],
        "token_type": [1, 1, 1, 1, 1, 3, 4],
        "eos_token_id": 5,
        "add_bos_token": False,
        "fim_pad_token_id": 3,
    }
    small_spm = {
        "model": "llama",
        "tokens": ["<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "\u2581", "a", "\u2581a", "aa"],
        "scores": [0.0, 0.0, 0.0, 0.0, 0.0, -1.5, -2.0, -3.0, -4.0],
        "token_type": [2, 3, 3, 6, 6, 1, 1, 1, 1],
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "add_eos_token": True,
        "eos_token_id": 2,
        "add_space_prefix": True,
    }
    whole = [
        byte_level_bpe(290, pre="qwen2", chat_template=None),
        sentencepiece(330, chat_template=None),
    ]
    keys: list[dict[str, Any]] = [small_bpe, small_spm]
    keys += [{name.removeprefix("tokenizer.ggml."): v for name, v in w.items()} for w in whole]
    return [json.dumps({"keys": each, "texts": texts}).encode() for each in keys]


def templates() -> list[bytes]:
    """Chat templates: those of the tests, and one line for each feature."""
    folder = Path(__file__).parents[1] / "tests" / "text" / "data" / "templates"
    real = [path.read_bytes() for path in sorted(folder.glob("*.jinja"))]
    small = [
        CHATML_TEMPLATE,
        "{% set ns = namespace(v=[]) %}{% for x in messages %}{% set ns.v = ns.v + [x.role] %}"
        "{% endfor %}{{ ns.v | join(',') }}",
        "{% macro m(x) %}[{{ x }}{{ caller() if caller }}]{% endmacro %}"
        "{% call m(1) %}y{% endcall %}",
        "{% for x in [1, [2]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
        "{{ '%s-%5.2f' % ('a', 1.5) }}{{ '{:>5}'.format(3) }}{{ tools | tojson(indent=2) }}",
        "{%- generation -%}{{ messages | selectattr('role', 'equalto', 'user') | list }}"
        "{%- endgeneration -%}",
    ]
    return [*real, *(text.encode() for text in small)]


def safetensors() -> list[bytes]:
    """JSON as `target_safetensors.py` reads it: tiny checkpoints, and one weight of each layout."""
    sizes = {"hidden": 16, "layers": 1, "heads": 1, "kv_heads": 1, "head_dim": 16, "ffn": 16}
    seeds = []
    with tempfile.TemporaryDirectory() as name:
        for index, (family, head, way) in enumerate(
            [("llama", None, "deepseek"), ("qwen3", TinyHead(), "qwen")]
        ):
            folder = Path(name) / str(index)
            write_tiny_checkpoint(folder, family, head=head, way=way, **sizes)
            seeds.append(_as_json(folder))
        vectors = Path(__file__).parents[1] / "tests" / "files" / "safetensors" / "data"
        for index, path in enumerate(sorted(vectors.glob("*.safetensors"))):
            folder = Path(name) / f"vector{index}"
            folder.mkdir()
            shutil.copy(path, folder / "model.safetensors")
            seeds.append(_as_json(folder))
    return [json.dumps(seed).encode() for seed in seeds]


def quantised() -> list[bytes]:
    """Importance matrices of the model that `write_weighed_model` writes, and models."""
    with tempfile.TemporaryDirectory() as folder:
        model, text, made = (Path(folder) / name for name in ("m.gguf", "t.txt", "i.gguf"))
        write_weighed_model(model)
        text.write_text("some words to read " * 20)
        make_imatrix(model, text, made, ImatrixSettings(chunk_size=32), threads=1)
        return [made.read_bytes(), *checkpoints()]


def write_weighed_model(path: Path) -> None:
    """Write a small model whose matrices have blocks of 256."""
    sizes = {"hidden": 256, "layers": 1, "heads": 4, "head_dim": 64, "kv_heads": 1, "ffn": 256}
    write_tiny_model(path, "llama", types="F16", **sizes)


def _as_json(folder: Path) -> dict[str, Any]:
    files, others = {}, {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            others[path.name] = json.loads(path.read_text())
        else:
            content = path.read_bytes()
            end = 8 + int.from_bytes(content[:8], "little")
            files[path.name] = {"header": json.loads(content[8:end])}
    return {"files": files, "json": others}


SEEDS = {
    "checkpoint": checkpoints,
    "safetensors": safetensors,
    "writer": written,
    "quantise": quantised,
    "tokenizer": tokenizers,
    "template": templates,
}
"""What makes the seeds of each target."""
