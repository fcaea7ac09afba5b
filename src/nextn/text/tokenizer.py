"""The tokenizer of a model: text to token ids and back, exactly as the model was trained.

`load_tokenizer` builds it from the metadata of the model file alone. Special tokens are cut out
first; what is left goes to the encoder of the file's kind, byte-level BPE or SentencePiece BPE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nextn.errors import RequestError, UnsupportedModelError, shown
from nextn.text.pretokenizers import find_pre_tokenizer
from nextn.text.sentencepiece import SPACE, SentencePieceEncoder, byte_token
from nextn.text.special_tokens import BYTE, SpecialSplitter, SpecialTokens, classify

if TYPE_CHECKING:
    from nextn.files import TokenizerData


class _Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    """Turns text into token ids and back. Made by `load_tokenizer`; safe to share between threads.

    Attributes:
        vocab_size: number of tokens; ids are 0 <= id < vocab_size.
        bos_id: token that begins a text, if the model has one.
        eos_id: token that ends a text, if the model has one.
        end_of_generation: ids after which a reply is complete.
        special: ids of control tokens, which are structure and not text; `skip_special` drops them.
        add_space_prefix: whether a text is encoded as if a space stood before it.
    """

    def __init__(
        self,
        data: TokenizerData,
        encoder: _Encoder,
        tokens: SpecialTokens,
        byte_ids: Mapping[int, int] | None,
    ) -> None:
        byte_level = byte_ids is None
        self.vocab_size = len(data.tokens)
        self.bos_id = data.bos_id
        self.eos_id = data.eos_id
        self.end_of_generation = tokens.end_of_generation
        self.special = tokens.control
        self.add_space_prefix = data.add_space_prefix and not byte_level
        self._tokens = data.tokens
        self._encoder = encoder
        self._byte_level = byte_level
        self._byte_values = {token: byte for byte, token in (byte_ids or {}).items()}
        self._literal = tokens.control | tokens.user_defined
        self._bytes: dict[int, bytes] = {}
        self._prefix = [data.bos_id] if data.add_bos and data.bos_id is not None else []
        self._suffix = [data.eos_id] if data.add_eos and data.eos_id is not None else []
        self._splitters = {
            parse_special: SpecialSplitter({i: data.tokens[i] for i in ids})
            for parse_special, ids in ((False, tokens.user_defined), (True, self._literal))
        }

    @cached_property
    def control_splitter(self) -> SpecialSplitter:
        """Finds the texts of control tokens."""
        return SpecialSplitter({i: self._tokens[i] for i in self.special})

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        leave_out: str | None = None,
        continues: bool = False,
    ) -> list[int]:
        """Return the token ids of `text`.

        Args:
            text: any string. Lone surrogates, which have no encoding, are read as U+FFFD.
            add_special: put the begin and end tokens around it, if the model asks for them.
            parse_special: read the texts of control tokens, such as "<|im_end|>", as these tokens.
                Leave it off for text that comes from outside: there they are plain characters.
            leave_out: is taken out of the text after control tokens were found; see
                `nextn.text.shield`.
            continues: the text follows other text, so that no space is put before it (see
                `add_space_prefix`).

        Raises:
            RequestError: the vocabulary has no tokens for a character.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids = list(self._prefix) if add_special else []
        after_special = not continues
        for part in self._splitters[parse_special].split(text):
            if isinstance(part, int):
                ids.append(part)
                after_special = True
            else:
                if leave_out is not None:
                    part = part.replace(leave_out, "")
                if self.add_space_prefix and after_special:
                    part = " " + part
                ids += self._encoder.encode(part)
                after_special = False
        if add_special:
            ids += self._suffix
        return ids

    def decode(
        self, ids: Iterable[int], *, skip_special: bool = False, continues: bool = False
    ) -> str:
        """Return the text of `ids`.

        Bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave out control tokens.
            continues: the ids follow other text. Otherwise the one space that `encode` puts before
                a text (see `add_space_prefix`) is taken off again.

        Raises:
            RequestError: an id is outside the vocabulary.
        """
        pieces = []
        at_start = self.add_space_prefix and not continues
        for token in ids:
            if token in self.special:
                if not skip_special:
                    pieces.append(self.token_bytes(token))
                continue
            piece = self.token_bytes(token)
            if at_start:
                piece = piece.removeprefix(b" ")
                at_start = False
            pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token: a space for U+2581, a control token's own text, and so on.

        Raises:
            RequestError: the id is outside the vocabulary.
        """
        piece = self._bytes.get(token)
        if piece is None:
            piece = self._bytes[token] = self._spell(token)
        return piece

    def token_text(self, token: int) -> str:
        """Return one token as text; bytes that are no UTF-8 on their own become U+FFFD.

        Raises:
            RequestError: the id is outside the vocabulary.
        """
        return self.token_bytes(token).decode("utf-8", "replace")

    def _spell(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise RequestError(
                f"token id {token} is outside the vocabulary; use 0 to {self.vocab_size - 1}"
            )
        text = self._tokens[token]
        if token in self._literal:
            return text.encode("utf-8", "replace")
        if self._byte_level:
            # Only a byte-level model needs the library that this module imports.
            from nextn.text.byte_level import token_to_bytes

            return token_to_bytes(text)
        if token in self._byte_values:
            return bytes([self._byte_values[token]])
        return text.replace(SPACE, " ").encode("utf-8", "replace")


def load_tokenizer(data: TokenizerData) -> Tokenizer:
    """Build the tokenizer that a model file describes.

    Args:
        data: the tokenizer part of the file's metadata.

    Raises:
        UnsupportedModelError: a kind of tokenizer or pre-tokenizer that nextn does not know.
        FileFormatError: the merges or scores are of no use.
    """
    ids: dict[str, int] = {}
    for token, text in enumerate(data.tokens):
        ids.setdefault(text, token)
    ids.pop("", None)
    tokens = classify(data, ids)
    if data.model == "gpt2":
        from nextn.text.byte_level import ByteLevelEncoder

        rule = find_pre_tokenizer(data.pre, data.path)
        vocabulary = _without(ids, data.tokens, tokens.control)
        encoder = ByteLevelEncoder(vocabulary, data.merges, rule, data.path)
        return Tokenizer(data, encoder, tokens, None)
    if data.model == "llama":
        scores = data.scores
        if scores is None:
            scores = np.zeros(len(data.tokens), np.float32)
        byte_ids = _byte_ids(data)
        vocabulary = _without(ids, data.tokens, tokens.control | set(byte_ids.values()))
        pieces = SentencePieceEncoder(vocabulary, scores, byte_ids, data.unknown_id, data.path)
        return Tokenizer(data, pieces, tokens, byte_ids)
    raise UnsupportedModelError(
        f"{data.path}: tokenizer.ggml.model: unknown tokenizer {shown(data.model)}; "
        "known are gpt2 and llama"
    )


def _without(ids: dict[str, int], texts: Sequence[str], left_out: Iterable[int]) -> dict[str, int]:
    """Return `ids` less some tokens: text that only looks like them must not become them."""
    kept = dict(ids)
    for token in left_out:
        kept.pop(texts[token], None)
    return kept


def _byte_ids(data: TokenizerData) -> Mapping[int, int]:
    """Map byte values to the ids of their tokens, of type BYTE or, without types, by their text."""
    types = data.token_types
    if types is None:
        candidates: Iterable[int] = range(len(data.tokens))
    else:
        candidates = np.flatnonzero(types == BYTE).tolist()
    pairs = ((byte_token(data.tokens[token]), token) for token in candidates)
    return {byte: token for byte, token in pairs if byte is not None}
