"""Texts on disk: folders of NumPy files, each written as a whole or not at all.

A shard holds `tokens.npy` int32 [tokens], `hidden.npy` uint16 [tokens, hidden] (bfloat16 bits) and
`texts.json`: for each text its first token, length, length of its prompt, category and index.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextn.errors import RequestError
from nextn.files.replacing import replacing
from nextn.train.writer import Text

_IDENTITY = "data.json"


@dataclass(frozen=True, slots=True)
class StoredText:
    """A text of a shard; the arrays are views of mapped files.

    Attributes:
        index: names it; see `Task`.
        category: kind of task.
        written_from: position of the first token that the trunk wrote.
        tokens: int32 [length].
        hidden: uint16 [length, hidden]; see `Text.hidden`.
    """

    index: int
    category: str
    written_from: int
    tokens: NDArray[np.int32]
    hidden: NDArray[np.uint16]

    @property
    def written(self) -> int:
        """Tokens that the trunk wrote."""
        return len(self.tokens) - self.written_from


class TextStore:
    """A folder of shards.

    Args:
        folder: is made if it is not there.
        identity: what the texts depend on; a folder with another one is refused.
        read_only: leave the folder as it is: another process may be writing into it.

    Attributes:
        folder: where they are.
        identity: what they depend on.
        written: tokens that the trunk wrote.
        indices: what names the texts that are there.

    Raises:
        RequestError: the folder holds texts of another model or of other settings.
        OSError: it cannot be made or read.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], *, read_only: bool = False) -> None:
        self.folder = folder
        self.identity = identity
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*.part"):
                shutil.rmtree(leftover, ignore_errors=True)
        path = folder / _IDENTITY
        if path.exists():
            found = _read_identity(path)
            if found != identity:
                names = sorted(k for k in {*found, *identity} if found.get(k) != identity.get(k))
                raise RequestError(
                    f"{folder}: holds texts that were made with another {', '.join(names)}; give "
                    "the same settings, or another folder with --work"
                )
        else:
            write_json(path, identity)
        self.written = 0
        self.indices: set[int] = set()
        self._count = 0
        for shard in self._shards():
            for record in _records(shard):
                self.written += record["length"] - record["written_from"]
                self.indices.add(record["index"])

    @classmethod
    def existing(cls, folder: Path) -> TextStore:
        """A folder that was made before, whatever its identity, to be read.

        Raises:
            RequestError: there is none.
        """
        path = folder / _IDENTITY
        if not path.exists():
            raise RequestError(f"{folder}: holds no texts of nextn train; there is no {path.name}")
        return cls(folder, _read_identity(path), read_only=True)

    def add(self, texts: Sequence[Text]) -> None:
        """Write a shard.

        Raises:
            OSError: the disk is full, or the like; nothing is left of the shard.
        """
        if not texts:
            return
        self._count += 1
        name = f"shard-{self._count:05d}"
        partial = self.folder / f".{name}.part"
        try:
            partial.mkdir()
            records, start = [], 0
            for text in texts:
                records.append(
                    {
                        "start": start,
                        "length": len(text.tokens),
                        "written_from": text.written_from,
                        "category": text.task.category,
                        "index": text.task.index,
                    }
                )
                start += len(text.tokens)
            np.save(partial / "tokens.npy", np.concatenate([text.tokens for text in texts]))
            np.save(partial / "hidden.npy", np.concatenate([text.hidden for text in texts]))
            write_json(partial / "texts.json", records)
            partial.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        for text in texts:
            self.written += len(text.tokens) - text.written_from
            self.indices.add(text.task.index)

    def texts(self) -> list[StoredText]:
        """All texts, in the order of their index."""
        found = [text for shard in self._shards() for text in _texts(shard)]
        return sorted(found, key=lambda text: text.index)

    def _shards(self) -> Iterator[Path]:
        for shard in sorted(self.folder.glob("shard-*")):
            self._count = max(self._count, int(shard.name.removeprefix("shard-")))
            yield shard


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RequestError(f"{path}: is not JSON: {error}; remove the folder") from error
    if not isinstance(found, dict):
        raise RequestError(f"{path}: is no JSON object; remove the folder")
    return found


def _records(shard: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((shard / "texts.json").read_text("utf-8"))
    return records


def _texts(shard: Path) -> Iterator[StoredText]:
    tokens = np.load(shard / "tokens.npy", mmap_mode="r")
    hidden = np.load(shard / "hidden.npy", mmap_mode="r")
    for record in _records(shard):
        part = slice(record["start"], record["start"] + record["length"])
        yield StoredText(
            record["index"],
            record["category"],
            record["written_from"],
            tokens[part],
            hidden[part],
        )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is complete as soon as it has its name."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1).encode())
