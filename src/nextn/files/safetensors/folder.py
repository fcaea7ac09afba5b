"""A Hugging Face checkpoint on disk: a folder of safetensors files and of JSON that explains them.

The tensors are in `model.safetensors`, or in shards that `model.safetensors.index.json` lists. The
index names files and tensors; both are checked before any is used.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nextn.errors import FileFormatError, SourceError, shown
from nextn.files.safetensors import limits
from nextn.files.safetensors.config import Config
from nextn.files.safetensors.header import check_name, read_header
from nextn.files.safetensors.json_files import read_bounded, read_object
from nextn.files.safetensors.tensor import StoredTensor

SUFFIX = ".safetensors"
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
_TEMPLATE_NAME = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    tensors: dict[str, StoredTensor]
    nbytes: int


class SafetensorsFolder:
    """An open checkpoint.

    Attributes:
        path: the folder, or the one file that was opened.
        folder: the folder, which the JSON files are in.
        tensors: every tensor of every file, by name.
        files: the safetensors files that were read, in order.
        file_bytes: their size.
        unlisted: tensors that a shard holds, but the index does not list. They count all the same:
            tools that cut the index have cut a head out with it.
        other_files: names of safetensors files of the folder that do not belong to the checkpoint.
    """

    def __init__(
        self, path: Path, files: list[_File], unlisted: list[str], other_files: list[str]
    ) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self.tensors: dict[str, StoredTensor] = {}
        for file in files:
            for name, tensor in file.tensors.items():
                if name in self.tensors:
                    tensor.fail(f"occurs in {self.tensors[name].path.name}, too")
                self.tensors[name] = tensor
        self.files = [file.path for file in files]
        self.file_bytes = sum(file.nbytes for file in files)
        self.unlisted = unlisted
        self.other_files = other_files

    def __enter__(self) -> SafetensorsFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; they are unmapped when the last view of a tensor is gone."""
        self.tensors = {}

    @cached_property
    def config(self) -> Config:
        """`config.json`.

        Raises:
            SourceError: there is none, or it cannot be read.
            FileFormatError: it is not a JSON object.
        """
        found = self.json("config.json")
        if found is None:
            raise SourceError(
                f"{self.folder / 'config.json'}: is missing; it says what model it is"
            )
        return found

    def json(self, name: str, *, most: int = limits.MOST_CONFIG_BYTES) -> Config | None:
        """A JSON file of the folder; None if there is none.

        Raises:
            SourceError: it cannot be read.
            FileFormatError: it is not a JSON object, or too large.
        """
        path = self.folder / name
        if not path.exists():
            return None
        return Config(path, read_object(path, most=most))

    def text(self, name: str, *, most: int = limits.MOST_TEMPLATE_BYTES) -> str | None:
        """A text file of the folder; None if there is none.

        Raises:
            SourceError: it cannot be read.
            FileFormatError: it is not UTF-8, or too large.
        """
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return read_bounded(path, most=most).decode()
        except UnicodeDecodeError as error:
            raise FileFormatError(path, "text", f"is not UTF-8 (byte {error.start})") from None

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the default chat template, if there is one.

        It stands in a file of its own, or in `tokenizer_config.json`: as text, or as a list of
        named templates, of which the one called "default" is meant.

        Raises:
            SourceError, FileFormatError: as `json` and `text`.
        """
        own = self.text(_TEMPLATE_NAME)
        if own is not None:
            return own
        for name in ("chat_template.json", "tokenizer_config.json"):
            config = self.json(name)
            if config is None or "chat_template" not in config:
                continue
            value = config.value("chat_template")
            if not isinstance(value, list):
                return config.string("chat_template")
            for item in value:
                if isinstance(item, dict) and item.get("name") == "default":
                    return Config(config.path, item, "chat_template.").string("template")
        return None


def is_safetensors(path: Path) -> bool:
    """Whether a path looks like a safetensors checkpoint: a folder with one in it, or a file."""
    if path.is_dir():
        return any(path.glob(f"*{SUFFIX}")) or (path / INDEX_NAME).exists()
    return path.name.endswith((SUFFIX, INDEX_NAME))


def open_safetensors(path: str | Path) -> SafetensorsFolder:
    """Open a checkpoint; no byte of a tensor is read.

    Args:
        path: a folder, the index of one, or a single safetensors file, of which only its own
            tensors are taken.

    Raises:
        SourceError: there is nothing to open, a shard is missing, or a file cannot be read.
        FileFormatError: a file that breaks the rules of the format, or an index that does not
            agree with its shards.
        UnsupportedModelError: an element type that nextn does not know.
    """
    path = Path(path)
    if path.name.endswith(INDEX_NAME):
        return _open_shards(path.parent, path)
    if not path.is_dir():
        return SafetensorsFolder(path, [_open_file(path)], [], [])
    names = sorted(found.name for found in path.glob(f"*{SUFFIX}"))
    if (path / INDEX_NAME).exists():
        return _open_shards(path, path / INDEX_NAME)
    if SINGLE_NAME in names:
        single = SINGLE_NAME
    elif len(names) == 1 and not _SHARD.fullmatch(names[0]):
        single = names[0]
    else:
        raise SourceError(_nothing_to_open(path, names))
    others = [name for name in names if name != single]
    return SafetensorsFolder(path, [_open_file(path / single)], [], others)


def _nothing_to_open(path: Path, names: list[str]) -> str:
    if any(_SHARD.fullmatch(name) for name in names):
        return (
            f"{path / INDEX_NAME}: is missing; without it nobody knows which shards there must be"
        )
    if names:
        return f"{path}: holds {len(names)} safetensors files, but none called {SINGLE_NAME}"
    others = [found.name for found in path.iterdir() if found.name.endswith(_OTHER_WEIGHTS)]
    if others:
        return (
            f"{path}: holds no safetensors file; {others[0]} is in a format that may run code when "
            "it is opened, which nextn does not read"
        )
    return f"{path}: holds no safetensors file"


def _open_file(path: Path) -> _File:
    try:
        # Asked before opening: to open a named pipe would wait for its writer.
        if path.exists() and not path.is_file():
            raise SourceError(f"{path}: is not a file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise FileFormatError(path, "header length", "the file is empty")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise SourceError(f"{path}: cannot be read: {reason or error}") from error
    header = read_header(path, memoryview(mapping))
    tensors = {name: StoredTensor(entry, path, mapping) for name, entry in header.entries.items()}
    return _File(path, tensors, size)


def _open_shards(folder: Path, index_path: Path) -> SafetensorsFolder:
    index = Config(index_path, read_object(index_path, most=limits.MOST_INDEX_BYTES))
    listed: dict[str, list[str]] = {}
    weight_map = index.section("weight_map")
    for name in weight_map:
        check_name(index_path, name, "weight_map")
        listed.setdefault(_shard_name(weight_map, name), []).append(name)
    if not listed:
        index.fail("weight_map", "is missing or empty")
    if len(listed) > limits.MOST_SHARDS:
        index.fail("weight_map", f"names {len(listed)} files; at most {limits.MOST_SHARDS}")
    missing = [shard for shard in sorted(listed) if not (folder / shard).exists()]
    if missing:
        raise SourceError(
            f"{folder / missing[0]}: {len(missing)} of {len(listed)} shards that {index_path.name} "
            "names are missing; fetch the whole checkpoint"
        )
    files, unlisted = [], []
    for shard, names in sorted(listed.items()):
        file = _open_file(folder / shard)
        for name in names:
            if name not in file.tensors:
                index.fail(f"weight_map.{name}", f"says {shard}, which holds no such tensor")
        unlisted += sorted(file.tensors.keys() - set(names))
        files.append(file)
    others = sorted(found.name for found in folder.glob(f"*{SUFFIX}") if found.name not in listed)
    return SafetensorsFolder(folder, files, unlisted, others)


def _shard_name(weight_map: Config, name: str) -> str:
    """The file that holds a tensor: a plain name, so that it cannot point out of the folder."""
    shard = weight_map.string(name)
    plain = shard.isprintable() and not {"/", "\\"} & set(shard)
    if not plain or not shard.endswith(SUFFIX) or shard.startswith("."):
        weight_map.fail(name, f"{shown(shard)} is not the name of a safetensors file")
    return shard
