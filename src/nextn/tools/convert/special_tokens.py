"""The tokens of a checkpoint's tokenizer that are not found by merging, and what they are for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nextn.errors import FileFormatError, shown
from nextn.files.safetensors import Config, SafetensorsFolder
from nextn.text.special_tokens import BYTE, CONTROL, END_TEXTS, UNKNOWN, USER_DEFINED

NORMAL, UNUSED = 1, 5
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")

# Some checkpoints call their control tokens ordinary text.
_CONTROL_TEXT = re.compile(r"<\|.*\|>|<｜.*｜>")
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary.

    Attributes:
        texts: of each token, by id; ids without a token have one that is never used.
        types: of each token, as GGUF files count them.
        ids: text in the file -> id.
    """

    texts: list[str]
    types: list[int]
    ids: dict[str, int]


def read_tokens(tokenizer: Config, rows: int, *, with_bytes: bool) -> Tokens:
    """Read the vocabulary of tokenizer.json.

    Args:
        tokenizer: the file.
        rows: of the embedding; the vocabulary is filled up to it.
        with_bytes: whether tokens such as <0x0A> stand for bytes, and "▁" for a space.

    Raises:
        FileFormatError: an id that two tokens have, or that the embedding has no row for.
    """
    model = tokenizer.section("model")
    texts: dict[int, str] = {}
    types: dict[int, int] = {}
    vocabulary = model.section("vocab")
    for text in vocabulary:
        token = vocabulary.integer(text, minimum=0, maximum=rows - 1)
        if token in texts:
            vocabulary.fail(text, f"has the id {token}, which {shown(texts[token])} has, too")
        texts[token] = text
        types[token] = BYTE if with_bytes and BYTE_PIECE.fullmatch(text) else NORMAL
    for item in tokenizer.items("added_tokens"):
        added = Config(tokenizer.path, item if isinstance(item, dict) else {}, "added_tokens.")
        text, token = added.string("content"), added.integer("id", minimum=0, maximum=rows - 1)
        if texts.get(token, text) != text:
            added.fail("id", f"{token} is both {shown(texts[token])} and {shown(text)}")
        control = added.boolean("special", False) or _CONTROL_TEXT.fullmatch(text)
        texts[token] = text
        types[token] = CONTROL if control else USER_DEFINED
    ids = {text: token for token, text in texts.items()}
    if with_bytes:
        # Such a token stands for spaces as they are in the text.
        plain = [token for token, kind in types.items() if kind == USER_DEFINED]
        texts |= {token: texts[token].replace("\u2581", " ") for token in plain}
    unknown = model.string("unk_token", "")
    for token, text in texts.items():
        if with_bytes and unknown and text == unknown:
            types[token] = UNKNOWN
    if not texts:
        vocabulary.fail("", "holds no tokens")
    all_texts = [texts.get(token, f"[PAD{token}]") for token in range(rows)]
    all_types = [types.get(token, UNUSED) for token in range(rows)]
    return Tokens(all_texts, all_types, ids)


def special_ids(folder: SafetensorsFolder, tokens: Tokens, notes: list[str]) -> dict[str, int]:
    """The `tokenizer.ggml.*_token_id` keys.

    `tokenizer_config.json` names tokens by their text; what it leaves out is taken from
    `config.json` and `generation_config.json`, which name them by id.

    Args:
        folder: the checkpoint.
        tokens: its vocabulary.
        notes: what the user should know is added to it.

    Raises:
        FileFormatError: a name that is not in the vocabulary, or an id beyond it.
    """
    found: dict[str, int] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        config = folder.json(name)
        for role, key in _ROLES.items() if config is not None else ():
            text = None if config is None else _text(config, f"{role}_token")
            if text is not None and config is not None and key not in found:
                if text not in tokens.ids:
                    config.fail(f"{role}_token", f"{shown(text)} is not in the vocabulary")
                found[key] = tokens.ids[text]
    ends: list[int] = []
    generation = folder.json("generation_config.json")
    for source in (generation, folder.config.section("text_config"), folder.config):
        for role, key in _ROLES.items() if source is not None else ():
            ids = [] if source is None else _ids(source, f"{role}_token_id", len(tokens.texts))
            if ids:
                found.setdefault(key, ids[0])
            if key == "eos":
                ends += ids
    others = dict.fromkeys(
        token
        for token in ends
        if token != found.get("eos") and tokens.texts[token] not in END_TEXTS
    )
    for key, token in zip(("eot", "eom"), others, strict=False):
        found[key] = token
    if len(others) > 2:
        left = ", ".join(shown(tokens.texts[token]) for token in list(others)[2:])
        notes.append(f"the tokens {left} end a text, too, which a GGUF file has no place for")
    return {f"tokenizer.ggml.{key}_token_id": token for key, token in found.items()}


def adds_special(folder: SafetensorsFolder, tokenizer: Config) -> tuple[bool, bool]:
    """Whether a token is put before a text, and one behind it.

    Raises:
        FileFormatError: a setting of the wrong type.
    """
    before, behind = _by_template(tokenizer)
    config = folder.json("tokenizer_config.json")
    if config is not None:
        before = config.boolean("add_bos_token", before)
        behind = config.boolean("add_eos_token", behind)
    return before, behind


def _by_template(tokenizer: Config) -> tuple[bool, bool]:
    """What the post-processor puts around a text."""
    processor = tokenizer.section("post_processor")
    parts: list[Any] = [processor.values, *processor.items("processors")]
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "TemplateProcessing":
            places = Config(tokenizer.path, part, "post_processor.").items("single")
            kinds = [next(iter(place), "") if isinstance(place, dict) else "" for place in places]
            return kinds[:1] == ["SpecialToken"], kinds[-1:] == ["SpecialToken"]
    return False, False


def _text(config: Config, key: str) -> str | None:
    """The text of a token that is given as such, or with further settings."""
    value = config.value(key)
    if value is None or isinstance(value, str):
        return value or None
    return config.section(key).string("content")


def _ids(config: Config, key: str, count: int) -> list[int]:
    value = config.value(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    ids: list[int] = []
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int) or not -1 <= item < count:
            raise FileFormatError(
                config.path, config.field(key), f"{shown(repr(item))} is not the id of a token"
            )
        # Some configurations write -1 for none.
        if item >= 0:
            ids.append(item)
    return ids
