"""Small tokenizers with the metadata keys of real GGUF files."""

from __future__ import annotations

from typing import Any

CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_BPE_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# "Ġ" is the byte-level notation of a space.
_BPE_MERGES = (
    "Ġ t", "h e", "i n", "Ġ a", "r e", "o n", "Ġt he", "e r", "Ġ s", "a t", "Ġ w", "n d", "i s",
    "o r", "Ġ o", "Ġa nd", "in g", "e n", "Ġ b", "l l", "Ġ c", "Ġ f", "e d", "Ġo f", "Ġt o",
)  # fmt: skip
_SPM_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
_SPM_TURNS = ("<start_of_turn>", "<end_of_turn>")
# Best first: the score of a piece falls with its place, and single characters come last.
_SPM_PIECES = (
    "▁t", "he", "in", "▁a", "re", "on", "▁the", "er", "▁s", "at", "▁w", "nd", "is", "or", "▁o",
    "▁and", "ing", "en", "▁b", "ll",
)  # fmt: skip
_SPM_CHARACTERS = "▁etaoinsrhldcumfpgwybvkxjqz.,'\n"


def byte_characters() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies (Radford et al., 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]


def byte_level_bpe(vocab: int, *, pre: str, chat_template: str | None) -> dict[str, Any]:
    """Metadata of a "gpt2" tokenizer: three control tokens, 256 bytes, a few merges, padding."""
    merged = [merge.replace(" ", "") for merge in _BPE_MERGES]
    tokens = [*_BPE_SPECIAL, *byte_characters(), *merged]
    types = [CONTROL] * len(_BPE_SPECIAL) + [NORMAL] * (256 + len(merged))
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        **_padded(tokens, types, vocab),
        "tokenizer.ggml.merges": list(_BPE_MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    return metadata


def sentencepiece(vocab: int, *, chat_template: str | None) -> dict[str, Any]:
    """Metadata of a "llama" tokenizer: control tokens, 256 byte tokens, pieces with scores."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [*_SPM_PIECES, *_SPM_CHARACTERS]
    tokens = [*_SPM_SPECIAL, *_SPM_TURNS, *byte_tokens, *pieces]
    types = [CONTROL, CONTROL, CONTROL, UNKNOWN, CONTROL, CONTROL]
    types += [BYTE] * 256 + [NORMAL] * len(pieces)
    unscored = len(tokens) - len(pieces)
    scores = [-1000.0] * unscored + [-float(place) for place in range(len(pieces))]
    padded = _padded(tokens, types, vocab)
    scores += [-1000.0] * (vocab - len(scores))
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": padded["tokenizer.ggml.tokens"],
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": padded["tokenizer.ggml.token_type"],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    return metadata


def _padded(tokens: list[str], types: list[int], vocab: int) -> dict[str, Any]:
    missing = vocab - len(tokens)
    if missing < 0:
        raise ValueError(f"a vocabulary of {vocab} is too small; this tokenizer has {len(tokens)}")
    return {
        "tokenizer.ggml.tokens": tokens + [f"[PAD{len(tokens) + n}]" for n in range(missing)],
        "tokenizer.ggml.token_type": types + [UNUSED] * missing,
    }
