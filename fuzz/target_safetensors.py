"""Fuzz target: a safetensors folder, from its headers to the GGUF file that it is converted to.

An input is JSON: {"files": {NAME: {"header": OBJECT or TEXT, "data": TEXT or missing}}, "json":
{NAME: VALUE}}. The header is written as it is; data that are missing are random, and finite.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from fuzz.instrument import instrumented

with instrumented("nextn"):
    from nextn.cli.checkpoint_page import checkpoint_page, checkpoint_record
    from nextn.files import open_checkpoint
    from nextn.files.safetensors import SafetensorsFolder, open_safetensors
    from nextn.files.safetensors.quantised import find_weights
    from nextn.models import load_model_plan
    from nextn.tools.checkpoint_facts import read_checkpoint_facts
    from nextn.tools.convert import convert

import numpy as np
from tests.support.safetensors_bytes import file_bytes

from fuzz.harness import WrongResultError, start
from fuzz.json_mutator import mutator
from nextn.errors import NextnError

MOST_ELEMENTS = 1 << 20
MOST_DATA = 1 << 20
PIECES = [
    *("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "I32", "I64", "F4"),
    *(".weight", ".bias", ".qweight", ".qzeros", ".scales", ".g_idx", ".weight_packed", "_blocks"),
    *(".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".weight_global_scale", "_scales"),
    *(".weight_shape", ".weight_zero_point", ".weight_g_idx", ".scale", ".input_scale", "mtp."),
    *("model.", "layers.0.", "layers.1.", "layers.99.", "self_attn.q_proj", "eh_proj", "lm_head"),
    *("llama", "qwen3", "gemma3_text", "gemma3", "yarn", "linear", "llama3", "silu", "gptq", "awq"),
    *("model.safetensors", "../x.safetensors", "Ġ", "▁", "<0x0A>", "<|im_end|>", "BPE", "NFC"),
    *("Split", "Digits", "ByteLevel", "Sequence", "Removed", "Metaspace", "Replace"),
]  # fmt: skip
NAMES = ("model.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.json")
_FOLDER = Path(tempfile.mkdtemp(prefix="nextn-fuzz-"))


def _text(value: str, random: Random) -> str:
    at = random.randint(0, len(value))
    match random.randrange(5):
        case 0:
            return random.choice(PIECES)
        case 1:
            return value[:at]
        case 2:
            return value[:at] + chr(random.randrange(0xD800)) + value[at:]
        case _:
            return value[:at] + random.choice(PIECES) + value[at:]


def _write(folder: Path, value: dict[str, Any]) -> None:
    for name, file in dict(value.get("files") or {}).items():
        header, data = file.get("header"), file.get("data")
        if isinstance(data, str):
            content = data.encode("latin-1", "replace")
        else:
            # In no type of floats do bytes below 96 make NaN or infinity.
            rng = np.random.default_rng(0)
            content = rng.integers(0, 96, _data_bytes(header), np.uint8).tobytes()
        raw = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header
        # Names are plain: where files lie is not what is tested.
        path = folder / Path(str(name)).name.replace("\0", "")[:100]
        path.write_bytes(file_bytes(raw, content))
    for name, content in dict(value.get("json") or {}).items():
        path = folder / Path(str(name)).name.replace("\0", "")[:100]
        path.write_text(json.dumps(content))


def _data_bytes(header: Any) -> int:
    """Where the last tensor ends, if that makes sense."""
    ends = [
        entry["data_offsets"][1]
        for entry in (header.values() if isinstance(header, dict) else ())
        if isinstance(entry, dict)
        and isinstance(entry.get("data_offsets"), list)
        and len(entry["data_offsets"]) == 2
        and isinstance(entry["data_offsets"][1], int)
    ]
    return max(0, min(MOST_DATA, max(ends, default=0)))


def _read_everything(folder: SafetensorsFolder) -> None:
    for tensor in folder.tensors.values():
        if tensor.nbytes > MOST_DATA:
            raise WrongResultError(f"{tensor.nbytes} bytes in a file of fewer")
        with np.errstate(invalid="ignore"):
            if tensor.decode().shape != tensor.shape:
                raise WrongResultError("decoded to another shape")
    for weight in find_weights(folder).by_name.values():
        if weight.elements > MOST_ELEMENTS:
            continue
        try:
            with np.errstate(all="ignore"):  # codes times scales of any size
                whole = weight.decode()
                if weight.shape and weight.shape[0] > 1:
                    part = weight.rows(1, weight.shape[0])
                    if part.tobytes() != np.ascontiguousarray(whole[1:]).tobytes():
                        raise WrongResultError("rows differ from the whole")
        except NextnError:
            continue
        if whole.shape != weight.shape or whole.dtype != np.float32:
            raise WrongResultError("decoded to another shape")
    facts = read_checkpoint_facts(folder)
    json.dumps(checkpoint_record(facts))
    checkpoint_page("x", facts)


def test_one_input(content: bytes) -> None:
    """Read a folder, and convert it."""
    try:
        value = json.loads(content)
        folder = Path(tempfile.mkdtemp(dir=_FOLDER))
        _write(folder, value)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OSError):
        return
    output = folder / "out.gguf"
    try:
        with open_safetensors(folder) as opened:
            _read_everything(opened)
        for part in ("all", "trunk", "head"):
            try:
                with np.errstate(all="ignore"):
                    convert(folder, output, part=part)  # type: ignore[arg-type]
            except NextnError:
                if output.exists():
                    raise WrongResultError("an output in spite of an error") from None
                continue
            with open_checkpoint(output) as checkpoint, contextlib.suppress(NextnError):
                load_model_plan(checkpoint)
            output.unlink()
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


if __name__ == "__main__":
    start(test_one_input, mutator(_text))
