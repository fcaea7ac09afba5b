"""Fuzz target: the tokenizer keys of a model file, and texts for the tokenizer that they make.

An input is JSON: "keys" with a value for each `tokenizer.ggml.*` key, and "texts", each a list of
[piece, times]. So a seed can be read, and a long text takes few bytes.
"""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from fuzz.instrument import instrumented

with instrumented("nextn"):
    from nextn.files import open_checkpoint
    from nextn.text.shield import Shield
    from nextn.text.stream import StreamDetokenizer
    from nextn.text.tokenizer import Tokenizer, load_tokenizer

from tests.support.gguf_bytes import (
    ARCHITECTURE,
    BOOL,
    F32,
    I32,
    STRING,
    U32,
    GgufBytes,
    array_entry,
    number,
    number_entry,
    string,
    text_entry,
)

from fuzz.harness import WrongResultError, start
from fuzz.json_mutator import mutator
from nextn.errors import RequestError

LONGEST_TEXT = 20_000
PIECES = [
    *(" ", "\u2581", "\u0120", "\n", "\r\n", "\t", "a", "A", "1", "'s", "\u4e2d", "\xe9"),
    *("e\u0301", "\ud800", "\udfff", "\x00", "\ufffd", "\U0001f600", "\u0300", "\u200d"),
    *("\u3042", "\u0e01", "<0x0A>", "<0xE2>", "<0x+1>", "<0x_1>", "<0xGG>", "<s>", "</s>"),
    *("<unk>", "<|im_end|>", "<|end|>", "<|call|>", "<|return|>", "<|tool_response>"),
    *("<|channel|>", "<eos>", "[PAD]", "<fim_pad>", ""),
]  # fmt: skip
PRE = [
    *("default", "gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder"),
    *("deepseek-v3", "falcon", "gpt-4o", "tekken", "kimi-k2", "exaone-moe", "tiny_aya"),
    *("laguna", "youtu", "smollm", "qwen35", "minicpm5", "bailingmoe", "seed-coder", "bloom"),
    *("viking", "unknown"),
]  # fmt: skip
_FOLDER = Path(tempfile.mkdtemp(prefix="nextn-fuzz-"))


def _text(value: str, random: Random) -> str:
    at = random.randint(0, len(value))
    match random.randrange(6):
        case 0:
            return random.choice([*PRE, "gpt2", "llama"])
        case 1:
            return value[:at]
        case 2:
            return value[at:]
        case 3:
            return value[:at] + chr(random.randrange(0x110000)) + value[at:]
        case _:
            return value[:at] + random.choice(PIECES) + value[at:]


def _entry(key: str, value: Any) -> bytes | None:
    """A metadata entry of the type that the value suggests, which may be wrong."""
    if isinstance(value, bool):
        return number_entry(key, BOOL, value)
    if isinstance(value, int):
        kind = U32 if 0 <= value < 1 << 32 else I32
        return number_entry(key, kind, max(-(1 << 31), min(value, (1 << 31) - 1)))
    if isinstance(value, float):
        return number_entry(key, F32, _single(value))
    if isinstance(value, str):
        return text_entry(key, value.encode("utf-8", "surrogatepass"))
    if not isinstance(value, list):
        return None
    if all(isinstance(item, int) for item in value):
        return array_entry(key, I32, [number(I32, item % (1 << 31)) for item in value])
    if all(isinstance(item, int | float) for item in value):
        return array_entry(key, F32, [number(F32, _single(item)) for item in value])
    texts = [str(item).encode("utf-8", "surrogatepass") for item in value]
    return array_entry(key, STRING, [string(text) for text in texts])


def _single(value: float) -> float:
    try:
        struct.pack("<f", value)
    except OverflowError:
        return 1.0
    return value


def _use(tokenizer: Tokenizer, unknown: int | None, text: str) -> None:
    for parse_special in (False, True):
        try:
            ids = tokenizer.encode(text, parse_special=parse_special)
        except RequestError:
            continue
        if ids and not 0 <= min(ids) <= max(ids) < tokenizer.vocab_size:
            raise WrongResultError("a token outside of the vocabulary")
        plain = set(tokenizer.encode(text, add_special=False)) - {unknown}
        if not parse_special and tokenizer.special & plain:
            raise WrongResultError("a text became a control token")
        for skip in (False, True):
            stream = StreamDetokenizer(tokenizer, skip_special=skip)
            pieces = [*map(stream.push, ids), stream.finish()]
            if "".join(pieces) != tokenizer.decode(ids, skip_special=skip):
                raise WrongResultError("the stream differs from the whole")
    Shield(tokenizer.control_splitter).protect([text])


def test_one_input(content: bytes) -> None:
    """Build a tokenizer and use it."""
    try:
        value = json.loads(content)
        keys, texts = dict(value["keys"]), list(value["texts"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    entries = [_entry(f"tokenizer.ggml.{key}", given) for key, given in keys.items()]
    path = _FOLDER / "model.gguf"
    path.unlink(missing_ok=True)
    metadata = [ARCHITECTURE, *(entry for entry in entries if entry is not None)]
    path.write_bytes(GgufBytes(metadata=metadata).build())
    with open_checkpoint(path) as checkpoint:
        data = checkpoint.tokenizer
    tokenizer = load_tokenizer(data)
    for token in range(min(tokenizer.vocab_size, 300)):
        tokenizer.token_text(token)
    for parts in texts[:8]:
        if not isinstance(parts, list):
            continue
        text = ""
        for part in parts:
            if isinstance(part, list) and len(part) == 2 and isinstance(part[0], str):
                times = part[1] if isinstance(part[1], int) else 1
                text += part[0] * max(0, min(times, LONGEST_TEXT // max(1, len(part[0]))))
        _use(tokenizer, data.unknown_id, text[:LONGEST_TEXT])


if __name__ == "__main__":
    start(test_one_input, mutator(_text))
