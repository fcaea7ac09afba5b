"""An executor without a model: its logits are a pure function of the token history of a row.

The history is not handed over, it is read from storage that is addressed like a key/value cache.
Each cell keeps a token, its position and a hash of the whole text up to it, as the keys and values
of a position depend on all tokens before it. So a wrong block table, a wrong position, a missing
row, a block shared by different texts or a rejected draft that was taken for text raises.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from nextn.backends.base import BLOCK_TOKENS, Rows, check_rows
from nextn.engine import GenerationRequest
from nextn.sampling import Follower, Sampler

VOCAB = 64
END = 62  # a control token that ends a text
CONTROL = 63  # a control token that does not

_MASK = (1 << 64) - 1
_CONTEXTS = 23  # few contexts make the text repeat itself
_random = np.random.default_rng(7)
_BY_CONTEXT = (_random.standard_normal((_CONTEXTS, VOCAB)) * 3).astype(np.float32)
_BY_HISTORY = (_random.standard_normal((1009, VOCAB)) * 0.4).astype(np.float32)


def _link(history: int, token: int) -> int:
    """The hash of a text from that of the text before its last token."""
    value = (history * 0x9E3779B97F4A7C15 + token + 1) & _MASK
    return value ^ (value >> 29)


def _logits(history: int, before: int, last: int) -> NDArray[np.float32]:
    return _BY_CONTEXT[(7 * before + last) % _CONTEXTS] + _BY_HISTORY[history % len(_BY_HISTORY)]


def logits_after(tokens: Sequence[int]) -> NDArray[np.float32]:
    """float32 [VOCAB]: what the fake model says after a text."""
    history = reduce(_link, tokens, 0)
    return _logits(history, tokens[-2] if len(tokens) > 1 else 0, tokens[-1])


class FakeExecutor:
    """See `nextn.backends.base.Executor`.

    Attributes:
        steps: the rows of every step.
        on_step: called at the end of every step; may raise.
    """

    backend = "fake"
    has_head = False
    threads = 1
    vocab_size = VOCAB

    def __init__(
        self, *, context_length: int = 128, block_count: int = 16, max_rows: int = 64
    ) -> None:
        self.context_length = context_length
        self.block_count = block_count
        self.max_rows = max_rows
        self.steps: list[Rows] = []
        self.on_step: Callable[[], None] = lambda: None
        self._tokens = np.full((block_count, BLOCK_TOKENS), -1)
        self._positions = np.full((block_count, BLOCK_TOKENS), -1)
        self._histories = np.zeros((block_count, BLOCK_TOKENS), np.uint64)
        self._result = np.zeros((0, VOCAB), np.float32)

    def step(self, rows: Rows) -> NDArray[np.float32]:
        check_rows(rows, self)
        self._check_types(rows)
        self._result[:] = np.nan  # nobody may look at the logits of an earlier step
        self.steps.append(rows)
        wanted = []
        for row, token in enumerate(rows.tokens.tolist()):
            position = int(rows.positions[row])
            table = rows.block_tables[rows.slots[row]]
            if row == 0 or rows.slots[row - 1] != rows.slots[row]:
                self._check_history(table, position)
            before, history = self._cell(table, position - 1)
            history = _link(history, token)
            cell = table[position // BLOCK_TOKENS], position % BLOCK_TOKENS
            self._tokens[cell] = token
            self._positions[cell] = position
            self._histories[cell] = history
            if rows.wants_logits[row]:
                wanted.append(_logits(history, before, token))
        self._check_writers(rows)
        self._result = np.array(wanted, np.float32).reshape(-1, VOCAB)
        self.on_step()
        return self._result

    def close(self) -> None:
        self.steps.clear()

    def _cell(self, table: NDArray[np.int32], position: int) -> tuple[int, int]:
        """Token and history of a position; zeros before the text."""
        if position < 0:
            return 0, 0
        cell = table[position // BLOCK_TOKENS], position % BLOCK_TOKENS
        return int(self._tokens[cell]), int(self._histories[cell])

    def _check_history(self, table: NDArray[np.int32], length: int) -> None:
        """All positions before `length` were written, in one and the same text."""
        positions = np.arange(length)
        cells = table[positions // BLOCK_TOKENS], positions % BLOCK_TOKENS
        assert np.array_equal(self._positions[cells], positions)
        histories = self._histories[cells]
        before = np.concatenate((np.zeros(1, np.uint64), histories))[:length]
        values = before * np.uint64(0x9E3779B97F4A7C15)
        values += (self._tokens[cells] + 1).astype(np.uint64)
        assert np.array_equal(histories, values ^ (values >> np.uint64(29)))

    def _check_types(self, rows: Rows) -> None:
        for array in (rows.tokens, rows.positions, rows.slots, rows.block_tables):
            assert array.dtype == np.int32
            assert array.flags.c_contiguous
        assert rows.wants_logits.dtype == np.bool_
        assert rows.positions.max() < self.context_length

    def _check_writers(self, rows: Rows) -> None:
        """No two rows of a step write to the same place."""
        blocks = rows.block_tables[rows.slots, rows.positions // BLOCK_TOKENS]
        places = blocks * BLOCK_TOKENS + rows.positions % BLOCK_TOKENS
        assert len(np.unique(places)) == len(places)


class FakeTokenizer:
    """Tokens of one to three letters, halves of characters, and two control tokens."""

    vocab_size = VOCAB
    special = frozenset({END, CONTROL})
    end_of_generation = frozenset({END})
    add_space_prefix = False

    def token_bytes(self, token: int) -> bytes:
        if token in self.special:
            return b"<end>" if token == END else b"<control>"
        if token in (60, 61):
            return "é".encode()[token - 60 : token - 59]
        letters = "abcdefghij"
        return (letters[token % 10] * (1 + token // 25)).encode()


class Oracle:
    """What a request must yield, found by the simplest loop there is.

    Attributes:
        tokens: the ids to be written.
        text: their text up to the end token or stop string.
        finish_reason: why the text ends.
    """

    def __init__(self, request: GenerationRequest, context_length: int) -> None:
        seed = request.sampling.seed
        assert seed is not None
        text = list(request.prompt)
        self.tokens: list[int] = []
        while True:
            source = request.constraint
            # A new one for each token: it cannot remember anything.
            constraint = None if source is None else Follower(source, len(request.prompt))
            sampler = Sampler(request.sampling, seed, VOCAB, constraint)
            token = sampler.choose(logits_after(text), text, len(text)).token
            text.append(token)
            self.tokens.append(token)
            ended = token in request.end_tokens
            shown, at = self._shown(request.stop, final=False, skip_last=ended)
            if ended or at is not None:
                self.finish_reason = "stop"
                break
            if len(self.tokens) == request.max_tokens:
                self.finish_reason = "length"
                break
            if len(text) == context_length:
                self.finish_reason = "context"
                break
        if at is None:
            shown, at = self._shown(request.stop, final=True, skip_last=ended)
        self.text = shown if at is None else shown[:at]

    def _shown(
        self, stops: tuple[str, ...], *, final: bool, skip_last: bool
    ) -> tuple[str, int | None]:
        """The text so far, and where the first complete stop string in it starts."""
        tokenizer = FakeTokenizer()
        tokens = self.tokens[:-1] if skip_last else self.tokens
        pieces = [tokenizer.token_bytes(t) for t in tokens if t not in tokenizer.special]
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(pieces), final)
        for end in range(len(text) + 1):
            found = [stop for stop in stops if text[:end].endswith(stop)]
            if found:
                return text, end - max(map(len, found))
        return text, None
