"""Makes importance matrices: runs a model over a text, and sums up what its matrices are given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS, Chains, Executor, Rows, create_executor
from nextn.engine.memory import available_memory, check_memory
from nextn.errors import FileFormatError, RequestError, SourceError
from nextn.files import Checkpoint, open_checkpoint
from nextn.files.gguf.writer import check_outputs
from nextn.files.imatrix import ImportanceMatrix, InputSquares, write_imatrix
from nextn.heads import AUTOMATIC, FoundHead, find_head
from nextn.model_size import MAX_ROWS, size_model
from nextn.models.head_tensors import head_tensor_names
from nextn.plan import observe
from nextn.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from nextn.files.sources.progress import ProgressCallback
    from nextn.models.nextn_head import HeadedModel

DEFAULT_CHUNK: Final = 512
"""Tokens of a chunk."""

_LEAST_TOKENS: Final = 32


@dataclass(frozen=True, slots=True)
class ImatrixSettings:
    """How an importance matrix is made.

    Attributes:
        chunk_size: tokens of each piece of the text, which begin without what was before.
        chunks: most pieces; None for all.
        parse_special: read the texts of control tokens as these tokens, for texts that hold chats.
        head: a file with a prediction head; "auto" takes the one in the model's file, None none.
    """

    chunk_size: int = DEFAULT_CHUNK
    chunks: int | None = None
    parse_special: bool = False
    head: str | None = AUTOMATIC


@dataclass(frozen=True, slots=True)
class ImatrixResult:
    """What was made.

    Attributes:
        matrix: the importance matrix.
        tokens: how many were read.
        head: the prediction head that was run with the model; None without one.
        notes: what else there is to say, a line each.
    """

    matrix: ImportanceMatrix
    tokens: int
    head: FoundHead | None
    notes: Sequence[str]


def make_imatrix(
    model: Path,
    text: Path,
    output: Path,
    settings: ImatrixSettings | None = None,
    *,
    backend: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> ImatrixResult:
    """Run a model over a text, and write the importance matrix of its matrices.

    The head in the model's file runs over the same text, as it does before it drafts, so that its
    matrices have entries, too. A matrix that several operations use, such as an embedding that
    serves as the output of trunk and head, has the inputs of all of them.

    Args:
        model: a GGUF file; of a model in parts the first.
        text: a text in UTF-8.
        output: the file to write; an existing one is replaced.
        settings: how it is made.
        backend: what computes, "cpu" or "reference".
        threads: threads that compute; None chooses.
        progress: told how many tokens of the text were read.

    Raises:
        RequestError: an impossible setting, or a text that is too short.
        SourceError: a file that cannot be read, or a text that is not UTF-8.
        FileFormatError, UnsupportedModelError: a model that is damaged, or that nextn cannot run;
            also a model that computes what is not finite.
        MemoryLimitError: the model does not fit into memory.
        OutputError: the output is an input, or there is no space.
        OSError: it cannot be written; nothing is left of it.
    """
    settings = settings or ImatrixSettings()
    _check(settings)
    content = _read(text)
    with ExitStack() as opened:
        checkpoint = opened.enter_context(open_checkpoint(model))
        chunks = _chunks(checkpoint, content, settings, text)
        search = find_head(checkpoint, _head_of(checkpoint, settings))
        if search.model is not None:
            opened.callback(search.model.close)
        inputs = {checkpoint.path, text, *(tensor.path for tensor in checkpoint.tensors.values())}
        if search.found is not None:
            inputs.add(search.found.path)
        check_outputs([output], sorted(inputs))
        executor = _executor(checkpoint, search.model, backend, threads, len(chunks[0]))
        opened.callback(executor.close)
        total, done = sum(map(len, chunks)), 0
        for chunk in chunks:
            rows = _rows(chunk)
            executor.step(rows)
            if executor.has_head:
                executor.draft(rows, Chains.none())
            done += len(chunk)
            if progress is not None:
                progress(f"reading {text.name}", done, total)
        entries = _entries(executor, checkpoint)
        matrix = ImportanceMatrix(output, entries, [text.name], len(chunks), len(chunks[0]))
        write_imatrix(matrix, inputs=sorted(inputs))
        notes = [f"head not used: {reason}" for reason in search.rejected]
        return ImatrixResult(matrix, total, search.found, notes)


def _check(settings: ImatrixSettings) -> None:
    if not _LEAST_TOKENS <= settings.chunk_size <= MAX_ROWS:
        raise RequestError(
            f"chunks of {settings.chunk_size} tokens are not possible; allowed: {_LEAST_TOKENS} to "
            f"{MAX_ROWS}"
        )
    if settings.chunks is not None and settings.chunks < 1:
        raise RequestError(f"{settings.chunks} chunks are not possible; allowed: 1 or more")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: byte {error.start} is not valid UTF-8") from None


def _chunks(
    checkpoint: Checkpoint, content: str, settings: ImatrixSettings, path: Path
) -> list[NDArray[np.int32]]:
    """Pieces of the text, each with the begin token in front if the model asks for one.

    As llama.cpp does it, the begin token takes the place of a piece's first token, and what does
    not fill the last piece is left out, unless it is the only one.
    """
    data = checkpoint.tokenizer
    tokenizer = load_tokenizer(data)
    ids = tokenizer.encode(content, parse_special=settings.parse_special)
    if len(ids) < _LEAST_TOKENS:
        raise RequestError(
            f"{path}: has {len(ids)} tokens; an importance matrix needs at least {_LEAST_TOKENS}, "
            "and is good with tens of thousands"
        )
    tokens = np.array(ids, np.int32)
    size = min(settings.chunk_size, len(tokens))
    count = len(tokens) // size
    chunks = [
        tokens[index * size : (index + 1) * size].copy()
        for index in range(min(count, settings.chunks or count))
    ]
    if data.add_bos and data.bos_id is not None:
        for chunk in chunks:
            chunk[0] = data.bos_id
    return chunks


def _head_of(checkpoint: Checkpoint, settings: ImatrixSettings) -> str | None:
    """A head that lies beside the model belongs to another file, and so do its entries."""
    if settings.head == AUTOMATIC and not head_tensor_names(checkpoint.tensors):
        return None
    return settings.head


def _executor(
    checkpoint: Checkpoint,
    head: HeadedModel | None,
    backend: str,
    threads: int | None,
    chunk_size: int,
) -> Executor:
    size = size_model(checkpoint, chunk_size, backend, 1, "f16", head)
    check_memory(checkpoint.path, size.need, available_memory(), size.context)
    return create_executor(
        checkpoint if head is None else head.checkpoint,
        backend=backend,
        threads=threads,
        context_length=size.context,
        block_count=-(-chunk_size // BLOCK_TOKENS),
        max_rows=chunk_size,
        plan=observe(size.plan),
        head=None if size.head is None else observe(size.head),
    )


def _rows(chunk: NDArray[np.int32]) -> Rows:
    """A whole chunk from position 0 on, over the same blocks of the cache each time."""
    count = len(chunk)
    return Rows(
        chunk,
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.int32),
        np.zeros(count, np.bool_),
        np.arange(-(-count // BLOCK_TOKENS), dtype=np.int32)[np.newaxis],
    )


def _entries(executor: Executor, checkpoint: Checkpoint) -> dict[str, InputSquares]:
    entries = {}
    for name, seen in executor.read_observed().items():
        sums = seen.sums.astype(np.float32)[np.newaxis]
        if not np.isfinite(sums).all():
            raise FileFormatError(
                checkpoint.path,
                f"tensor {name}",
                "is given values that are not finite; the model is damaged",
            )
        entries[name] = InputSquares(sums, np.array([seen.rows], np.float32))
    return entries
