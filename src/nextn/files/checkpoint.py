"""One view of a checkpoint: typed metadata, tensors with lazy bytes, tokenizer, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, shown
from nextn.files.gguf import EncodedValue, LazyStrings, MetadataValue, open_parts
from nextn.files.tensor import Tensor
from nextn.files.tokenizer_data import TokenizerData
from nextn.files.typed_values import REQUIRED, UNBOUNDED, TypedValues, described

_LONGEST_ARCHITECTURE: Final = 64


class Checkpoint(TypedValues):
    """An open model: metadata, tensors, tokenizer data and chat template.

    The typed getters (`integer` ... `strings`) take keys that may begin with "{arch}.", which
    stands for the architecture, and raise FileFormatError for a key that is missing without a
    default, has another type, or is out of bounds.

    Attributes:
        path: the file (of a split model: its first part).
        architecture: `general.architecture`.
        metadata: every key of the file; arrays of strings are decoded lazily.
        encoded_metadata: the same keys, byte for byte as they stand in the file, for copies of it;
            empty for models that do not come from one.
        tensors: by name, over all parts.
        file_bytes: size of all parts.
    """

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, MetadataValue],
        tensors: Mapping[str, Tensor],
        file_bytes: int,
        encoded_metadata: Mapping[str, EncodedValue] | None = None,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.encoded_metadata = encoded_metadata or {}
        self.tensors = tensors
        self.file_bytes = file_bytes
        self.architecture = ""
        self.architecture = self._architecture()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; they are unmapped when the last view of a tensor is gone."""
        self.metadata = {}
        self.encoded_metadata = {}
        self.tensors = {}

    def _architecture(self) -> str:
        """The name, which keys and messages are made of: short, and printable."""
        name = self.string("general.architecture")
        if not name.isprintable() or not 0 < len(name) <= _LONGEST_ARCHITECTURE:
            self.fail("general.architecture", f"{shown(name)} is not a name")
        return name

    def field(self, key: str) -> str:
        """The full name of a key."""
        return key.replace("{arch}", self.architecture) if "{arch}" in key else key

    def value(self, key: str) -> MetadataValue | None:
        """The value of a key as it stands; None if there is none."""
        return self.metadata.get(self.field(key))

    def integers(
        self,
        key: str,
        *,
        length: int | None = None,
        minimum: int = -UNBOUNDED,
        maximum: int = UNBOUNDED,
    ) -> NDArray[np.int64]:
        """A required array of integers from `minimum` to `maximum`: int64 [length]."""
        value = self._required(key, REQUIRED)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            self.fail(key, f"expected an array of integers, got {described(value)}")
        self._check_length(key, len(value), length)
        if value.size:
            self._check_range(key, int(value.min()), minimum, maximum)
            self._check_range(key, int(value.max()), minimum, maximum)
        return value.astype(np.int64)

    def numbers(self, key: str, *, length: int | None = None) -> NDArray[np.float64]:
        """A required array of floats without NaN: float64 [length]."""
        value = self._required(key, REQUIRED)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            self.fail(key, f"expected an array of floats, got {described(value)}")
        self._check_length(key, len(value), length)
        if np.isnan(value).any():
            self.fail(key, "holds NaN")
        return value.astype(np.float64)

    def strings(self, key: str, *, length: int | None = None) -> list[str]:
        """A required array of strings."""
        value = self._required(key, REQUIRED)
        if not isinstance(value, LazyStrings):
            self.fail(key, f"expected an array of strings, got {described(value)}")
        self._check_length(key, len(value), length)
        return value.decode()

    @cached_property
    def tokenizer(self) -> TokenizerData:
        """The tokenizer's data, checked; see `TokenizerData.read`."""
        return TokenizerData.read(self)

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the default chat template, if the model has one."""
        if "tokenizer.chat_template" not in self.metadata:
            return None
        return self.string("tokenizer.chat_template")

    def _check_length(self, key: str, length: int, expected: int | None) -> None:
        if expected is not None and length != expected:
            self.fail(key, f"has {length} entries, but must have {expected}")


def open_checkpoint(path: str | Path, *, to_copy: bool = False) -> Checkpoint:
    """Open a GGUF model; the parts of a split model are found beside the first.

    Args:
        path: the file, or the first part.
        to_copy: also allow tensors in block formats that nextn can only copy.

    Raises:
        SourceError: no such file, not a file, or not readable.
        FileFormatError: a file that breaks the rules of the format.
        UnsupportedModelError: a block format that nextn does not know.
    """
    path = Path(path)
    parts = open_parts(path, to_copy=to_copy)
    tensors = {
        name: Tensor(entry, part.path, part.mapping)
        for part in parts
        for name, entry in part.header.tensors.items()
    }
    file_bytes = sum(len(part.mapping) for part in parts)
    header = parts[0].header
    return Checkpoint(path, header.metadata, tensors, file_bytes, header.encoded)


def check_vocabulary(checkpoint: Checkpoint) -> None:
    """Check that the embedding is a matrix with exactly one row for each token.

    Raises:
        FileFormatError: a missing embedding, or rows that disagree with the vocabulary.
    """
    embedding = checkpoint.tensors.get("token_embd.weight")
    if embedding is None:
        raise FileFormatError(checkpoint.path, "tensor token_embd.weight", "is missing")
    if len(embedding.shape) != 2:
        raise FileFormatError(checkpoint.path, "tensor token_embd.weight", "is not a matrix")
    tokens = checkpoint.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, LazyStrings) and len(tokens) != embedding.shape[0]:
        raise FileFormatError(
            checkpoint.path,
            "tokenizer.ggml.tokens",
            f"has {len(tokens)} tokens, but token_embd.weight has {embedding.shape[0]} rows",
        )
