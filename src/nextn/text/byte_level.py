"""Byte-level BPE (`tokenizer.ggml.model` "gpt2"): text to tokens by ranked merges.

The alphabet is GPT-2's: each of the 256 bytes has a printable character, so that tokens are strings
although they stand for bytes. The merging itself is done by the `tokenizers` library; this file
builds its pipeline from the file's metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from nextn.errors import FileFormatError, RequestError
from nextn.text.pretokenizers import PreTokenizer

_NUMBER = re.compile(r"\d+")


def _byte_alphabet() -> dict[int, str]:
    """Give each byte its character: itself where it is printable, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet.update({byte: chr(0x100 + index) for index, byte in enumerate(others)})
    return alphabet


BYTE_TO_CHARACTER = _byte_alphabet()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def token_to_bytes(text: str) -> bytes:
    """Return the bytes that a byte-level token stands for.

    A character outside the alphabet stands for its own UTF-8: some files hold plain text in tokens
    that are not marked as user-defined.
    """
    try:
        return bytes([CHARACTER_TO_BYTE[character] for character in text])
    except KeyError:
        parts = (
            bytes([CHARACTER_TO_BYTE[character]])
            if character in CHARACTER_TO_BYTE
            else character.encode("utf-8", "replace")
            for character in text
        )
        return b"".join(parts)


class ByteLevelEncoder:
    """Encodes text without special tokens.

    Args:
        vocabulary: token text to id, without control tokens, which text must never become.
        merges: "left right", best first. A merge with an unknown part or result is left out, as are
            repeated merges: they can never produce a token of this vocabulary.
        rule: how to cut the text into words.
        path: the file, for error messages.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[str],
        rule: PreTokenizer,
        path: object,
    ) -> None:
        # A byte that the vocabulary lacks is dropped, but it still keeps its neighbours apart: it
        # gets a temporary id beyond all others.
        self._end = max(vocabulary.values(), default=-1) + 1
        missing = [text for text in CHARACTER_TO_BYTE if text not in vocabulary]
        self._complete = not missing
        complete = {**vocabulary, **{text: self._end + i for i, text in enumerate(missing)}}
        unique = dict.fromkeys(merges)
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in unique)]
        try:
            # The library aborts where a merge makes more bytes than any token has.
            if _most_bytes(unique) - 1 > _most_bytes(complete):
                raise ValueError("a merge is longer than all tokens")
            model = BPE(vocab=complete, merges=pairs, ignore_merges=rule.ignore_merges)
        # The library says with a bare Exception that a merge has an unknown part or result.
        # Checking all merges first would double the time that sound files need.
        except Exception as error:
            pairs = [pair for pair in map(_halves, unique) if _is_known(pair, complete)]
            if not pairs:
                raise FileFormatError(
                    path, "tokenizer.ggml.merges", "no merge builds a token of this vocabulary"
                ) from error
            model = BPE(vocab=complete, merges=pairs, ignore_merges=rule.ignore_merges)
        pipeline = Tokenizer(model)
        pipeline.pre_tokenizer = pre_tokenizers.Sequence(
            [
                *(pre_tokenizers.Split(Regex(split), "isolated") for split in rule.splits),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        if rule.nfc:
            pipeline.normalizer = normalizers.NFC()
        self._pipeline = pipeline
        self._longest_number = rule.longest_number

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`. A byte that the vocabulary lacks gives no token.

        Raises:
            RequestError: a number with more digits than the rule can group in reasonable time.
        """
        longest = self._longest_number
        if longest is not None and any(
            found.end() - found.start() > longest for found in _NUMBER.finditer(text)
        ):
            raise RequestError(
                f"a number in the text has more than {longest} digits, which the "
                "model's tokenizer does not take; divide it"
            )
        ids: list[int] = self._pipeline.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids if self._complete else [token for token in ids if token < self._end]


def _most_bytes(texts: Iterable[str]) -> int:
    return max(map(len, map(str.encode, texts)), default=0)


def _halves(merge: str) -> tuple[str, str]:
    """Cut a merge at its first space, but the left part may itself begin with one."""
    cut = max(merge.find(" ", 1), 0)
    return merge[:cut], merge[cut + 1 :]


def _is_known(pair: tuple[str, str], vocabulary: Mapping[str, int]) -> bool:
    left, right = pair
    return left in vocabulary and right in vocabulary and left + right in vocabulary
