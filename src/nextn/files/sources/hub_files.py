"""Which GGUF files of a repository make a model, and which model a user means.

Nothing here touches a disk or a network: a file is a path and a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nextn.errors import SourceError

PREFERRED = ("Q4_K_M", "UD-Q4_K_XL", "Q4_0", "Q8_0")
"""What is taken when no quantisation is named: the first of these that there is."""

_ENDING = ".gguf"
_UNSLOTH = "UD-"
_SHOWN = 12
_PART = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.ASCII)
_LABEL = re.compile(
    r"(?:^|[-._ ])(?P<label>(?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|NVFP4\w*|BF16|FP?16|FP?32|FP8))"
    r"(?=$|[-. ])",
    re.ASCII | re.IGNORECASE,
)
_HEAD = re.compile(r"^mtp-", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|^imatrix", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: relative to the repository, with slashes.
        bytes: its size.
        sha256: of its content, in lower-case hexadecimal, if the hub states it.
        blob: under which name the hub's cache keeps the content; "" for a file found on disk.
    """

    path: str
    bytes: int
    sha256: str | None = None
    blob: str = ""

    @property
    def stem(self) -> str:
        """The file's name without .gguf."""
        return PurePosixPath(self.path).name[: -len(_ENDING)]


@dataclass(frozen=True, slots=True)
class HubModel:
    """One model of a repository.

    Attributes:
        parts: its files, in order; one unless the model is split.
        label: the quantisation that its name states, in upper case, or "".
    """

    parts: tuple[HubFile, ...]
    label: str

    @property
    def path(self) -> str:
        """The first file."""
        return self.parts[0].path

    @property
    def bytes(self) -> int:
        """All files together."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Contents:
    """The GGUF files of a repository.

    Attributes:
        models: those that can be run, by path. A split model that misses a part is not among them.
        heads: files with prediction heads, by path.
    """

    models: tuple[HubModel, ...]
    heads: tuple[HubFile, ...]


def contents(files: Iterable[HubFile]) -> Contents:
    """Sort out the files of a repository.

    Projectors for images (mmproj) and importance matrices have the same ending but are no models.
    """
    whole: list[HubModel] = []
    heads: list[HubFile] = []
    split: dict[tuple[str, str, int], dict[int, HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if not file.path.lower().endswith(_ENDING) or _NO_MODEL.search(file.stem):
            continue
        part = _PART.fullmatch(file.stem)
        if _HEAD.search(file.stem):
            heads.append(file)
        elif part is None:
            whole.append(HubModel((file,), label_of(file.path)))
        else:
            folder = str(PurePosixPath(file.path).parent)
            key = folder, part["prefix"], int(part["count"])
            split.setdefault(key, {})[int(part["number"])] = file
    for (_, _, count), numbered in split.items():
        if len(numbered) == count and min(numbered) == 1 and max(numbered) == count:
            parts = tuple(numbered[number] for number in sorted(numbered))
            whole.append(HubModel(parts, label_of(parts[0].path)))
    return Contents(tuple(sorted(whole, key=lambda model: model.path)), tuple(heads))


def label_of(path: str) -> str:
    """The quantisation in a file's name, or else in its directory's, in upper case; "" if none."""
    name = PurePosixPath(path)
    stem = name.name[: -len(_ENDING)]
    part = _PART.fullmatch(stem)
    for text in (part["prefix"] if part else stem, name.parent.name):
        # The last one, since the name of a model may hold that of the format it came from.
        labels = _LABEL.findall(text)
        if labels:
            return str(labels[-1]).upper()
    return ""


def choose(models: Sequence[HubModel], wanted: str, name: str) -> HubModel:
    """The model that the user means.

    Args:
        models: all of a repository.
        wanted: a quantisation or a file, in any case of letters; "" takes the only model, or the
            first of `PREFERRED`.
        name: of the repository, for errors.

    Raises:
        SourceError: none, or several.
    """
    if not models:
        raise SourceError(f"{name}: there is no model in a .gguf file in this repository")
    if not wanted and len(models) == 1:
        return models[0]
    for label in (wanted,) if wanted else PREFERRED:
        found = _matching(models, label.upper())
        if len(found) == 1:
            return found[0]
        if found:
            raise SourceError(
                f"{name}: {len(found)} models are called {label}; name the file, as in "
                f"{name}:{found[0].path}: {listed(found)}"
            )
    problem = f"there is no {wanted}" if wanted else f"which of {len(models)} models?"
    example = models[0].label or models[0].path
    raise SourceError(f"{name}: {problem}; name one, as in {name}:{example}: {listed(models)}")


def _matching(models: Sequence[HubModel], wanted: str) -> list[HubModel]:
    """The models of the closest kind of match: file, label, UD- label, a part of the name."""
    for matches in (
        lambda model: wanted in (model.path.upper(), PurePosixPath(model.path).name.upper()),
        lambda model: wanted == model.label,
        lambda model: _UNSLOTH + wanted == model.label,
        lambda model: re.search(
            rf"(?:^|[-._/]){re.escape(wanted)}(?:$|[-._/])", model.path, re.IGNORECASE
        ),
    ):
        found = [model for model in models if matches(model)]
        if found:
            return found
    return []


def head_for(model: HubModel, heads: Sequence[HubFile]) -> HubFile | None:
    """The file of prediction heads that suits a model: of the same quantisation, or nearby."""
    folder = PurePosixPath(model.path).parent

    def distance(head: HubFile) -> tuple[bool, bool, str]:
        path = PurePosixPath(head.path)
        return label_of(head.path) != model.label, path.parent != folder, head.path

    return min(heads, key=distance, default=None)


def listed(models: Sequence[HubModel]) -> str:
    """Models with their sizes, for an error."""
    labels = [model.label for model in models]
    texts = [
        f"{model.label if model.label and labels.count(model.label) == 1 else model.path} "
        f"({size_text(model.bytes)})"
        for model in models[:_SHOWN]
    ]
    return ", ".join(texts) + (", ..." if len(models) > _SHOWN else "")


def size_text(size: int) -> str:
    """A size for an error, such as "4.37 GB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
