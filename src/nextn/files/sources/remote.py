"""Models that stay on the Hugging Face hub: their headers are read, their weights are not.

The beginning of each file is fetched, and more of it as long as its header goes on. So tens of
gigabytes can be looked at for a few megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, SourceError
from nextn.files.checkpoint import Checkpoint
from nextn.files.gguf import Header, HeaderContinuesError, TensorEntry, read_header
from nextn.files.sources.download import UnusableAddressError, read_range
from nextn.files.sources.hub import address_of, find_model
from nextn.files.sources.hub_cache import HUB_PREFIX, HubName
from nextn.files.sources.hub_files import HubFile
from nextn.files.sources.progress import ProgressCallback
from nextn.files.tensor import Tensor

_FIRST_BYTES = 1 << 20
_MOST_BYTES = 1 << 29  # of a header
_MOST_TENSOR_BYTES = 1 << 22

Reader = Callable[[int, int], bytes]
"""Reads a part of a file: its start, and its length."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on the hub whose header was read.

    Attributes:
        name: which one it is, with the file.
        checkpoint: its metadata and tensors. Small tensors are fetched when they are touched, large
            ones cannot be.
        fetched_bytes: of the headers.
        head: the file of prediction heads that was published with it, if any.
    """

    name: str
    checkpoint: Checkpoint
    fetched_bytes: int
    head: HubFile | None


class RemoteTensor(Tensor):
    """A tensor whose bytes are elsewhere.

    Args:
        entry: where it is in its file.
        path: what the file is called.
        read: reads parts of the file.
    """

    mapped = False

    def __init__(self, entry: TensorEntry, path: Path, read: Reader) -> None:
        self.path = path
        self.name = entry.name
        self.shape = entry.shape
        self.block_type = entry.block_type
        self.nbytes = entry.nbytes
        self.offset = entry.offset
        self._read = read
        self._bytes: bytes | None = None

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes: uint8 [nbytes].

        Raises:
            SourceError: they are many, or cannot be fetched.
        """
        if self._bytes is None:
            if self.nbytes > _MOST_TENSOR_BYTES:
                raise SourceError(
                    f"{self.path}: tensor {self.name}: is not on this machine, only the header "
                    "was read; use nextn pull to fetch the model"
                )
            self._bytes = self._read(self.offset, self.nbytes)
        return np.frombuffer(self._bytes, np.uint8)

    def check_finite(self) -> None:
        """Nothing is known of weights that are not here."""


def open_remote(name: HubName, progress: ProgressCallback) -> RemoteModel:
    """Read the header of a model on the hub; of a split model, the headers of all parts.

    Args:
        name: the model, or a file of heads.
        progress: told about the parts.

    Raises:
        SourceError: no such repository, revision or file, no permission, no connection, or a server
            that sends whole files only.
        FileFormatError, UnsupportedModelError: see `read_header`.
    """
    commit, model, head = find_model(name, also_heads=True)
    tensors: dict[str, Tensor] = {}
    fetched = 0
    first: tuple[Path, Header] | None = None
    for number, file in enumerate(model.parts):
        progress(f"reading the header of {name}", number, len(model.parts))
        path = Path(f"{HUB_PREFIX}{name.repository}/{file.path}")
        read = _reader(name, commit, file)
        header, size = _read_header(path, file.bytes, read)
        fetched += size
        first = first or (path, header)
        for entry in header.tensors.values():
            if entry.name in tensors:
                raise FileFormatError(path, f"tensor {entry.name}", "occurs in an earlier part")
            tensors[entry.name] = RemoteTensor(entry, path, read)
    if first is None:
        raise SourceError(f"{name}: has no files")
    path, header = first
    checkpoint = Checkpoint(path, header.metadata, tensors, model.bytes, header.encoded)
    exact = HubName(name.repository, name.revision, name.file or model.label or model.path)
    return RemoteModel(str(exact), checkpoint, fetched, head)


def _reader(name: HubName, commit: str, file: HubFile) -> Reader:
    url, authorization = address_of(name, commit, file)

    def read(start: int, count: int) -> bytes:
        try:
            return read_range(url, start, count, authorization=authorization)
        except UnusableAddressError as error:
            raise SourceError(f"{name}: {file.path} cannot be read: {error}") from error

    return read


def _read_header(path: Path, size: int, read: Reader) -> tuple[Header, int]:
    """The header, and how many bytes it took to get it."""
    data = b""
    wanted = _FIRST_BYTES
    while True:
        wanted = min(wanted, size)
        data += read(len(data), wanted - len(data)) if wanted > len(data) else b""
        try:
            header = read_header(path, memoryview(data), to_copy=True, size=size)
        except HeaderContinuesError as error:
            if error.needed > _MOST_BYTES:
                raise FileFormatError(path, "header", "is larger than any header is") from error
            wanted = max(error.needed, 2 * len(data))
        else:
            return header, len(data)
