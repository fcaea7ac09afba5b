"""Runs one or two models over a text, chunk by chunk, and compares what they predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS, Executor, Rows, create_executor
from nextn.engine.memory import available_memory, check_memory
from nextn.errors import FileFormatError, RequestError, SourceError, UnsupportedModelError
from nextn.files import Checkpoint, open_checkpoint
from nextn.model_size import MAX_ROWS, size_model
from nextn.models.nextn_head import vocabulary_hash
from nextn.prompts import load as load_prompts
from nextn.text.tokenizer import load_tokenizer
from nextn.tools.compare.logits_file import (
    LogitsFile,
    LogitsWriter,
    encode,
    new_logits_file,
    scored_positions,
)
from nextn.tools.compare.metrics import (
    Divergence,
    Doubles,
    Estimate,
    Positions,
    losses_of,
    perplexity_of,
)
from nextn.tools.vocabularies import vocabulary_difference

if TYPE_CHECKING:
    from nextn.files.sources import ModelSource

Progress = Callable[[int, int], None]
"""Told how many tokens were read, and how many there are."""

DEFAULT_CONTEXT = 512
"""Tokens of a chunk; figures for other contexts are other figures."""

_LEAST_CHUNKS = 2
_LOGITS_AT_A_TIME = 1 << 22
_OWN_TEXT = "the prompts that come with nextn"


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """What is compared, and how.

    Attributes:
        text: a file in UTF-8; None for the evaluation prompts of `nextn.prompts`.
        context: tokens of a chunk; None for 512, or what the stored logits have.
        chunks: most of them; None for all.
        logits: a file with the base's log-probabilities, instead of a base that is run.
        save_logits: a file to write the base's log-probabilities to.
        backend: as in `nextn.load`.
        threads: as in `nextn.load`.
        cache_type: as in `nextn.load`.
    """

    text: Path | None = None
    context: int | None = None
    chunks: int | None = None
    logits: Path | None = None
    save_logits: Path | None = None
    backend: str = "cpu"
    threads: int | None = None
    cache_type: str = "f16"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result.

    Attributes:
        base: name of the model that is compared with, or the file of its log-probabilities.
        model: name of the other; None if the base alone was run.
        text: what was read.
        context: tokens of a chunk.
        chunks: how many were read.
        positions: how many predictions were scored.
        base_perplexity: of the base; from 16-bit log-probabilities if they come from a file.
        perplexity: of the other.
        divergence: how far the other is from the base.
        notes: what else one should know.
    """

    base: str
    model: str | None
    text: str
    context: int
    chunks: int
    positions: int
    base_perplexity: Estimate
    perplexity: Estimate | None
    divergence: Divergence | None
    notes: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Everything, to be written as JSON."""
        record = asdict(self)
        if self.divergence is not None:
            for name in ("kl", "probability"):
                found = record["divergence"][name]["percentiles"]
                record["divergence"][name]["percentiles"] = {
                    f"{percent:g}": value for percent, value in found.items()
                }
        return record


def compare_models(
    base: ModelSource | None,
    model: ModelSource | None,
    settings: CompareSettings | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two models, or a model with stored log-probabilities, or measure one alone.

    The text is cut into chunks of `context` tokens, the rest is dropped. Each chunk starts with an
    empty cache, and with the begin token instead of its first one if the model asks for that. What
    is predicted after the positions of its second half is scored, but for the last one.

    Args:
        base: what is compared with; None if its log-probabilities are read from a file.
        model: what is compared; None to measure the base alone, or to save its log-probabilities.
        settings: everything else.
        progress: told about every step.

    Raises:
        RequestError: impossible settings, or a text that is too short.
        SourceError, FileFormatError: a file that cannot be read or written.
        UnsupportedModelError: the models have different vocabularies, or nextn cannot run one.
        MemoryLimitError: they do not fit into memory.
    """
    settings = settings or CompareSettings()
    _check_settings(base, model, settings)
    with ExitStack() as stack:
        opened = [
            None if source is None else stack.enter_context(open_checkpoint(source.path))
            for source in (base, model)
        ]
        stored = None if settings.logits is None else LogitsFile(settings.logits)
        runs = [one for one in opened if one is not None]
        notes = _check_vocabularies(runs, stored)
        tokens, text = _tokens(runs, stored, settings, notes)
        _check_target(settings, [one.path for one in runs])
        executors = [
            None if one is None else stack.enter_context(_Runner(one, tokens.shape[1], settings))
            for one in opened
        ]
        writer = None
        if settings.save_logits is not None and executors[0] is not None:
            writer = stack.enter_context(
                new_logits_file(
                    settings.save_logits, tokens.shape[1], executors[0].vocabulary, tokens
                )
            )
        positions, losses = _run(executors, stored, writer, tokens, progress)
    name = str(settings.logits) if base is None else base.name
    scored = len(tokens) * len(scored_positions(tokens.shape[1]))
    compared = bool(positions.losses)
    return Comparison(
        base=name,
        model=None if model is None else model.name,
        text=text,
        context=tokens.shape[1],
        chunks=len(tokens),
        positions=scored,
        base_perplexity=perplexity_of(np.concatenate(losses or positions.base_losses)),
        perplexity=perplexity_of(np.concatenate(positions.losses)) if compared else None,
        divergence=positions.divergence() if compared else None,
        notes=tuple(notes),
    )


def _check_settings(
    base: ModelSource | None, model: ModelSource | None, settings: CompareSettings
) -> None:
    if (base is None) == (settings.logits is None):
        raise RequestError("give either a base to run, or a file with its logits")
    if base is None and model is None:
        raise RequestError("give a model to compare with the stored logits")
    if settings.logits is not None and settings.text is not None:
        raise RequestError("the text is in the file with the logits; give one of both")
    if settings.logits is not None and settings.save_logits is not None:
        raise RequestError("the logits of the base are stored already")
    if settings.context is not None and settings.context < 4:
        raise RequestError(f"a context of {settings.context} tokens is not possible; at least 4")
    if settings.chunks is not None and settings.chunks < 1:
        raise RequestError(f"{settings.chunks} chunks are not possible; at least 1")


def _check_vocabularies(models: list[Checkpoint], stored: LogitsFile | None) -> list[str]:
    """Refuse what cannot be compared; the result is what is to be said."""
    for one in models:
        size = (
            one.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in one.tensors else 0
        )
        if stored is not None and size != stored.vocabulary:
            raise UnsupportedModelError(
                f"{one.path}: has {size} tokens, but the logits in {stored.path} are for "
                f"{stored.vocabulary}; they are of another model"
            )
    if len(models) < 2:
        return []
    base, other = models
    ours, theirs = vocabulary_hash(base), vocabulary_hash(other)
    if ours != theirs:
        different = vocabulary_difference(base, other) or "one file lists no tokens"
        raise UnsupportedModelError(
            f"{other.path}: has another vocabulary than {base.path}: {different}; "
            "their predictions are about different tokens and cannot be compared"
        )
    return []


def _tokens(
    models: list[Checkpoint],
    stored: LogitsFile | None,
    settings: CompareSettings,
    notes: list[str],
) -> tuple[NDArray[np.int32], str]:
    """The chunks, int32 [chunks, context], and what the text is called."""
    if stored is not None:
        if settings.context not in (None, stored.context):
            raise RequestError(
                f"the logits in {stored.path} are for a context of {stored.context}, not "
                f"{settings.context}"
            )
        return stored.tokens[: settings.chunks], f"the text of {stored.path}"
    context = settings.context or DEFAULT_CONTEXT
    text, name = _read(settings.text)
    cut = [load_tokenizer(model.tokenizer).encode(text) for model in models]
    if any(ids != cut[0] for ids in cut):
        notes.append("the models cut the text into different tokens; those of the base were used")
    count = len(cut[0]) // context
    if count < _LEAST_CHUNKS:
        raise RequestError(
            f"{name}: has {len(cut[0])} tokens, but two chunks of {context} are needed at least; "
            "take a longer text or a smaller context"
        )
    count = min(count, settings.chunks or count)
    return np.array(cut[0][: count * context], np.int32).reshape(count, context), name


def _read(path: Path | None) -> tuple[str, str]:
    if path is None:
        prompts = load_prompts("evaluation")
        texts = [message["content"] for prompt in prompts for message in prompt.messages]
        return "\n\n".join(texts), _OWN_TEXT
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(path, f"byte {error.start}", "is not valid UTF-8") from error
    return text.removesuffix("\n"), str(path)


def _check_target(settings: CompareSettings, models: list[Path]) -> None:
    target = settings.save_logits
    if target is None:
        return
    for path in (*models, settings.text):
        if path is not None and target.exists() and target.samefile(path):
            raise RequestError(f"{target}: is read here, and would be overwritten; take another")


class _Runner:
    """A model that gives the logits of chunks."""

    def __init__(self, checkpoint: Checkpoint, context: int, settings: CompareSettings) -> None:
        size = size_model(checkpoint, context, settings.backend, 1, settings.cache_type)
        check_memory(checkpoint.path, size.need, available_memory(), context)
        self._executor: Executor = create_executor(
            checkpoint,
            backend=settings.backend,
            threads=settings.threads,
            context_length=context,
            block_count=size.block_count,
            max_rows=MAX_ROWS,
            cache_type=settings.cache_type,
            plan=size.plan,
        )
        self.vocabulary = self._executor.vocab_size
        data = checkpoint.tokenizer
        self._begin = data.bos_id if data.add_bos else None

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.close()

    def begin(self, chunk: NDArray[np.int32]) -> NDArray[np.int32]:
        """The chunk as this model reads it."""
        if self._begin is None:
            return chunk
        return np.concatenate(([np.int32(self._begin)], chunk[1:]))

    def logits(self, chunk: NDArray[np.int32], start: int, end: int) -> NDArray[np.float32]:
        """Logits of some positions; all before them must have been computed.

        Returns:
            float32 [end - start, vocabulary]; valid until the next call.
        """
        return self._executor.step(_rows(chunk, start, end, wanted=True))

    def read(self, chunk: NDArray[np.int32], end: int) -> None:
        """Compute the positions before `end`, whose logits nobody needs."""
        for start in range(0, end, MAX_ROWS):
            self._executor.step(_rows(chunk, start, min(start + MAX_ROWS, end), wanted=False))


def _rows(chunk: NDArray[np.int32], start: int, end: int, *, wanted: bool) -> Rows:
    count = end - start
    return Rows(
        np.ascontiguousarray(chunk[start:end]),
        np.arange(start, end, dtype=np.int32),
        np.zeros(count, np.int32),
        np.full(count, wanted),
        np.arange(-(-len(chunk) // BLOCK_TOKENS), dtype=np.int32)[np.newaxis],
    )


def _run(
    runners: list[_Runner | None],
    stored: LogitsFile | None,
    writer: LogitsWriter | None,
    tokens: NDArray[np.int32],
    progress: Progress | None,
) -> tuple[Positions, list[Doubles]]:
    """Read all chunks; the result is what was compared, and the exact losses of the base."""
    base, model = runners
    positions, losses = Positions(), list[Doubles]()
    total = tokens.size
    first = scored_positions(tokens.shape[1]).start
    for number, chunk in enumerate(tokens):
        chunks = [None if one is None else one.begin(chunk) for one in runners]
        for one, own in zip(runners, chunks, strict=True):
            if one is not None and own is not None:
                one.read(own, first)
        for start, end in _pieces(tokens.shape[1], runners):
            following = chunk[start + 1 : end + 1]
            exact = None
            if base is not None and chunks[0] is not None:
                exact = _finite(base.logits(chunks[0], start, end), number)
                losses.append(losses_of(exact, following))
            coded = None
            if stored is not None:
                coded = stored.read(number, start - first, end - first)
            elif exact is not None and (writer is not None or model is not None):
                coded = encode(exact)
            if writer is not None and coded is not None:
                writer.write(coded)
            if model is not None and chunks[1] is not None and coded is not None:
                logits = _finite(model.logits(chunks[1], start, end), number)
                positions.add(logits, coded, following, exact)
            if progress is not None:
                progress(number * len(chunk) + end + 1, total)
    return positions, losses


def _pieces(context: int, runners: list[_Runner | None]) -> Iterator[tuple[int, int]]:
    """Scored positions in pieces whose logits need little memory."""
    vocabulary = max(one.vocabulary for one in runners if one is not None)
    step = max(1, min(MAX_ROWS, _LOGITS_AT_A_TIME // vocabulary))
    scored = scored_positions(context)
    for start in range(scored.start, scored.stop, step):
        yield start, min(start + step, scored.stop)


def _finite(logits: NDArray[np.float32], chunk: int) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        raise UnsupportedModelError(
            f"chunk {chunk}: the model computes NaN or infinity; its file is damaged"
        )
    return logits
