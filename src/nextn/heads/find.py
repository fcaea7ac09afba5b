"""Where heads are looked for, in which order, and what is said about those that do not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nextn.errors import FileFormatError, NextnError
from nextn.files import Checkpoint, open_checkpoint
from nextn.models.head_tensors import declared_head_layers, head_tensor_names
from nextn.models.nextn_head import TRUNK_KEY, HeadedModel, load_head_plan

AUTOMATIC: Final = "auto"

HeadOrigin: TypeAlias = Literal["inside", "beside", "shipped", "given"]
"""Inside the model's file, in a file beside it, shipped with nextn, or named by the user."""

_BESIDE_PATTERN = "mtp-*.gguf"
_SHIPPED_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class FoundHead:
    """What a model's head is.

    Attributes:
        origin: where it was found.
        path: the file that it is in.
        blocks: transformer blocks.
        bytes: size of its own tensors; what it borrows from the trunk is not counted.
        formats: block formats of its matrices, that with the most bytes first.
        hidden_kind: the hidden state that it takes: "post" or "pre" the trunk's last norm.
        draft_vocabulary: number of tokens that it can draft.
    """

    origin: HeadOrigin
    path: Path
    blocks: int
    bytes: int
    formats: tuple[str, ...]
    hidden_kind: str
    draft_vocabulary: int

    @classmethod
    def of(cls, model: HeadedModel, origin: HeadOrigin) -> FoundHead:
        """Describe the head of a model."""
        return cls(
            origin,
            model.file.path,
            1,
            model.bytes,
            model.formats,
            model.hidden_kind,
            model.head.vocab_size,
        )


@dataclass(frozen=True, slots=True)
class HeadSearch:
    """The result of a search.

    Attributes:
        model: trunk and head, described; None if there is no head that fits.
        found: what the head is; None likewise.
        rejected: one line about each head that was found and cannot be used.
    """

    model: HeadedModel | None = None
    found: FoundHead | None = None
    rejected: tuple[str, ...] = ()


def find_head(
    trunk: Checkpoint,
    head: str | os.PathLike[str] | None = AUTOMATIC,
    *,
    published: Path | None = None,
    check_weights: bool = True,
) -> HeadSearch:
    """Find a head for a model.

    Args:
        trunk: the model.
        head: a file with a head; "auto" looks inside the model's file, then beside it for a file
            called mtp-*.gguf, then among the heads that nextn ships; None for no head.
        published: a file of heads that was published together with the model, if it is known.
        check_weights: whether to read the head's weights, and refuse those that are NaN.

    Raises:
        NextnError: the file that was asked for cannot be read, or its head does not fit. A head
            that was found automatically is left out instead, and the result says so.
    """
    if head is None:
        return HeadSearch()
    if head != AUTOMATIC:
        model = _load(trunk, open_checkpoint(Path(head)), check_weights)
        return HeadSearch(model, FoundHead.of(model, "given"))
    rejected = []
    for origin, path in head_candidates(trunk, published):
        try:
            file = trunk if origin == "inside" else open_checkpoint(path)
            if origin == "shipped" and not names_trunk(file, trunk):
                continue
            model = _load(trunk, file, check_weights)
        except NextnError as error:
            rejected.append(str(error))
        else:
            return HeadSearch(model, FoundHead.of(model, origin), tuple(rejected))
    return HeadSearch(rejected=tuple(rejected))


def head_candidates(
    trunk: Checkpoint, published: Path | None = None
) -> Iterator[tuple[HeadOrigin, Path]]:
    """Files that may hold a head for a model, the best first.

    Of those that come with nextn, all are named; see `names_trunk`.
    """
    if declared_head_layers(trunk) or head_tensor_names(trunk.tensors):
        yield "inside", trunk.path
    own = trunk.path.with_name(f"mtp-{trunk.path.name}")
    beside = {} if published is None else {published: None}
    if own.is_file():
        beside[own] = None
    try:
        others = sorted(trunk.path.parent.glob(_BESIDE_PATTERN))
    except OSError:
        others = []
    # A file for another model may lie in the same folder, so it must say that it is for this one.
    beside |= {path: None for path in others if path != trunk.path and _is_for(path, trunk)}
    for path in beside:
        yield "beside", path
    for path in sorted(_SHIPPED_FOLDER.glob("*.gguf")):
        yield "shipped", path


def _is_for(path: Path, trunk: Checkpoint) -> bool:
    """Whether a file is a head that could be for this trunk, by what it says itself."""
    try:
        with open_checkpoint(path) as file:
            same = file.architecture == trunk.architecture
            return same and (names_trunk(file, trunk) or TRUNK_KEY not in file.metadata)
    except NextnError:
        return False


def names_trunk(file: Checkpoint, trunk: Checkpoint) -> bool:
    """Whether a head says that it was made for this trunk."""
    try:
        return file.string(TRUNK_KEY) == trunk.string("general.name")
    except FileFormatError:
        return False


def _load(trunk: Checkpoint, file: Checkpoint, check_weights: bool) -> HeadedModel:
    model = load_head_plan(trunk, file)
    if check_weights:
        model.check_finite()
    return model
