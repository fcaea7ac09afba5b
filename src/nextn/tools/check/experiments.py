"""Experiments with a head: what becomes of its guesses when something about it is changed.

The trunk's hidden states of some texts are kept, so that the head alone can be run again, in
float32, at all positions at once. Two kinds of questions are asked:

- *Parts*: each part of a head (its attention, its feed-forward network, the embedding and the
  hidden state that it joins) is there to make more guesses right. Without it, fewer must be: a part
  that does harm was damaged.
- *Repairs*: the mistakes that tools are known to make (halves exchanged, norms shifted by one, the
  wrong hidden state, a sign, a scale) are undone. If that makes more guesses right, the mistake was
  made.

Both compare the same positions before and after, by McNemar's test (1947): only positions that
changed count, and by chance they change both ways equally often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.reference import ReferenceExecutor
from nextn.models.nextn_head import HeadedModel
from nextn.plan import fuse
from nextn.tools.check.findings import Finding, doubt, fault
from nextn.tools.check.texts import WrittenText

Array = NDArray[np.float32]
Right = NDArray[np.bool_]

_LOGITS_AT_A_TIME = 1 << 24
_SURE = 3.0  # standard deviations from which a change counts
_LEAST_GAIN = 0.03  # of all positions
_UNUSED = 1.5  # standard deviations that a part must gain at least, or it is in doubt
_LEAST_POSITIONS = 64  # for a doubt
_BETTER_THAN_DOUBT = 0.8  # share of right guesses above which no part is doubted
_FIRST_LOOK = 64  # positions on which a repair must not lose, before it is tried on all


@dataclass(frozen=True, slots=True)
class Change:
    """Something to change about a head.

    Attributes:
        kind: "part" for one that is left out, "repair" for a mistake that is undone.
        code: what it is called, for programs.
        text: the same for people: of a part its name, of a repair the mistake.
        weights: the weights to use instead, by name.
        other_hidden: whether to give it the other hidden state.
    """

    kind: Literal["part", "repair"]
    code: str
    text: str
    weights: Mapping[str, Array] = field(default_factory=dict)
    other_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the guesses.

    Attributes:
        change: what was changed; its weights are not kept.
        share: right guesses after it, as a share of all.
        gained: positions that only became right by it.
        lost: positions that became wrong by it.
    """

    change: Change
    share: float
    gained: int
    lost: int

    @property
    def deviations(self) -> float:
        """How far gain and loss are apart, in standard deviations of chance."""
        return (self.gained - self.lost) / math.sqrt(max(self.gained + self.lost, 1))


@dataclass(frozen=True, slots=True)
class Experiments:
    """All of them.

    Attributes:
        positions: how many guesses were made.
        share: right guesses of the head as it is, as a share of all.
        parts: the head without each of its parts.
        repairs: those that were tried on all positions.
    """

    positions: int
    share: float
    parts: tuple[Outcome, ...]
    repairs: tuple[Outcome, ...]


class HeadAlone:
    """Runs a head over texts whose hidden states are known.

    Args:
        model: trunk and head, described.
        texts: of the trunk.
    """

    def __init__(self, model: HeadedModel, texts: Sequence[WrittenText]) -> None:
        self.model = model
        self.texts = texts
        longest = max(len(text.prompt) + len(text.tokens) for text in texts)
        self._executor = ReferenceExecutor(
            model.checkpoint,
            fuse(model.trunk),
            head=fuse(model.head),
            context_length=longest,
            block_count=-(-longest // BLOCK_TOKENS),
            max_rows=longest,
        )
        ids = model.head.token_ids
        self._ids = None if ids is None else np.array(ids, np.int64)
        self._norm = model.checkpoint.tensors["output_norm.weight"].decode()

    def weight(self, name: str) -> Array | None:
        """The values of one of the head's own tensors; None if it has none of this name."""
        return self._executor.weight(name) if name in self.model.tensors else None

    def right(
        self,
        weights: Mapping[str, Array] | None = None,
        *,
        other_hidden: bool = False,
        most: int | None = None,
    ) -> Right:
        """Which tokens of the texts the head guesses right, each from all tokens before it.

        Args:
            weights: to use instead of its own, by name.
            other_hidden: give it the hidden state before the trunk's last norm instead of that
                after it, or the other way round.
            most: stop after the text with which there are so many positions.

        Returns:
            bool [positions], text after text.
        """
        weights = weights or {}
        own = {name: self._executor.weight(name) for name in weights}
        for name, values in weights.items():
            self._executor.replace_weight(name, values)
        found: list[Right] = []
        try:
            for text in self.texts:
                found += self._right_in(text, other_hidden)
                if most is not None and sum(map(len, found)) >= most:
                    break
        finally:
            for name, values in own.items():
                self._executor.replace_weight(name, values)
        return np.concatenate(found)

    def _right_in(self, text: WrittenText, other_hidden: bool) -> list[Right]:
        tokens = np.array([*text.prompt, *text.tokens], np.int32)
        count, first = len(tokens) - 1, len(text.prompt) - 1
        blocks = np.arange(-(-len(tokens) // BLOCK_TOKENS), dtype=np.int32)
        hidden = self._other(text.hidden) if other_hidden else text.hidden
        hidden = hidden.reshape(len(blocks), BLOCK_TOKENS, -1)
        step = max(1, _LOGITS_AT_A_TIME // self.model.head.vocab_size)
        found: list[Right] = []
        begin = 0
        # The rows of the prompt come with the first that want logits.
        for start in range(first, count, step):
            end = min(start + step, count)
            positions = np.arange(begin, end, dtype=np.int32)
            # Every time, since the head leaves its own where it is asked.
            self._executor.write_hidden(0, blocks, hidden)
            logits = self._executor.head_logits(
                Rows(
                    tokens[begin:end],
                    positions,
                    np.zeros(len(positions), np.int32),
                    positions >= start,
                    blocks[np.newaxis],
                )
            )
            best = logits.argmax(axis=1)
            guesses = best if self._ids is None else self._ids[best]
            wanted = tokens[start + 1 : end + 1]
            found.append((guesses == wanted) & np.isfinite(logits).all(axis=1))
            begin = end
        return found

    def _other(self, hidden: Array) -> Array:
        """The hidden state on the other side of the trunk's last norm, but for its length.

        The length does not matter, since the head begins by dividing by it.
        """
        if self.model.hidden_kind == "post":
            weight = np.where(self._norm == 0, np.float32(1), self._norm)
            other = np.where(self._norm == 0, np.float32(0), hidden / weight)
        else:
            rms = np.sqrt(np.mean(np.square(hidden), axis=-1, keepdims=True))
            other = hidden / np.maximum(rms, np.float32(1e-12)) * self._norm
        return other.astype(np.float32)


def run_experiments(head: HeadAlone, *, rare: bool | None = None) -> Experiments:
    """Try everything.

    Args:
        head: to experiment with.
        rare: whether to undo rare mistakes, too; by default if the head seems ill.
    """
    right = head.right()
    share = float(right.mean())
    parts = tuple(_outcome(head, change, right) for change in parts_of(head))
    if rare is None:
        rare = share < 0.5 or any(one.deviations > -_SURE for one in parts)
    repairs = []
    for change in repairs_of(head, rare=rare):
        look = head.right(change.weights, other_hidden=change.other_hidden, most=_FIRST_LOOK)
        if look.sum() > right[: len(look)].sum():
            repairs.append(_outcome(head, change, right))
    return Experiments(len(right), share, parts, tuple(repairs))


def judge(experiments: Experiments) -> Iterator[Finding]:
    """What the experiments show: the best repair, or else parts that do harm or nothing."""
    without = max((one.share for one in experiments.parts), default=0.0)
    # A shift of a norm, say, may do no more than leave out the part that does harm.
    helpful = [
        one
        for one in experiments.repairs
        if one.deviations >= _SURE and one.share >= max(experiments.share, without) + _LEAST_GAIN
    ]
    best = max(helpful, key=lambda one: one.share, default=None)
    if best is not None:
        yield fault(
            best.change.code,
            next(iter(best.change.weights), "hidden state"),
            f"{best.change.text}: with that undone, {best.share:.1%} of the first drafts are right "
            f"instead of {experiments.share:.1%}",
        )
        return
    for one in experiments.parts:
        where = next(iter(one.change.weights))
        if one.deviations >= _SURE:
            yield fault(
                "harmful-part",
                where,
                f"the {one.change.text} of the head does harm: without it, {one.share:.1%} of the "
                f"first drafts are right instead of {experiments.share:.1%}; its tensors are "
                "damaged, or of another head",
            )
        elif (
            one.deviations > -_UNUSED
            and experiments.share < _BETTER_THAN_DOUBT
            and experiments.positions >= _LEAST_POSITIONS
        ):
            yield doubt(
                "useless-part",
                where,
                f"the {one.change.text} of the head brings nothing: without it, {one.share:.1%} "
                f"of the first drafts are right instead of {experiments.share:.1%}",
            )


def parts_of(head: HeadAlone) -> Iterator[Change]:
    """The head without each of its parts."""
    block = _block(head)
    for role, code, text in (
        ("attn_output", "no-attention", "attention"),
        ("ffn_down", "no-feed-forward", "feed-forward network"),
    ):
        name = f"{block}.{role}.weight"
        values = head.weight(name)
        if values is not None:
            yield Change("part", code, text, {name: np.zeros_like(values)})
    name, project = _projection(head)
    middle = project.shape[1] // 2
    without_hidden, without_embedding = project.copy(), project.copy()
    without_hidden[:, middle:] = 0
    without_embedding[:, :middle] = 0
    yield Change("part", "no-hidden", "hidden state", {name: without_hidden})
    yield Change("part", "no-embedding", "embedding", {name: without_embedding})


def repairs_of(head: HeadAlone, *, rare: bool) -> Iterator[Change]:
    """Mistakes that tools make, undone; the rare ones only if asked for."""
    block = _block(head)
    name, project = _projection(head)
    middle = project.shape[1] // 2
    exchanged = np.concatenate((project[:, middle:], project[:, :middle]), axis=1)
    yield Change(
        "repair",
        "halves-exchanged",
        "the halves of the joined projection are exchanged; the embedding comes first",
        {name: exchanged},
    )
    other = "pre" if head.model.hidden_kind == "post" else "post"
    yield Change(
        "repair",
        "hidden-kind",
        f"the head takes the hidden state {_SIDE[head.model.hidden_kind]} the trunk's last norm, "
        f"but was trained with that {_SIDE[other]} it (nextn.head.hidden should be {other})",
        other_hidden=True,
    )
    yield from _norm_repairs(head, single=rare)
    for first, second in (
        (f"{block}.ffn_gate.weight", f"{block}.ffn_up.weight"),
        (f"{block}.nextn.enorm.weight", f"{block}.nextn.hnorm.weight"),
        (f"{block}.attn_norm.weight", f"{block}.ffn_norm.weight"),
    ):
        one, two = head.weight(first), head.weight(second)
        if one is not None and two is not None and one.shape == two.shape:
            text = f"{first} and {second} are exchanged"
            yield Change("repair", "exchanged", text, {first: two, second: one})
    if rare:
        yield from _rare_repairs(head)


_SIDE = {"post": "after", "pre": "before"}
_POWERS = (1, 2, 3, 4, 6, 8)


def _norm_repairs(head: HeadAlone, *, single: bool) -> Iterator[Change]:
    names = [name for name in head.model.tensors if name.endswith("norm.weight")]
    own = [name for name in names if ".nextn." in name]
    groups = [names, own, [name for name in names if name not in own]]
    if single:
        groups += [[name] for name in names]
    for group in groups:
        for shift, text in (
            (-1, "have one added that they should not have"),
            (1, "lack the one of 1 + w"),
        ):
            weights = {name: values for name in group if (values := head.weight(name)) is not None}
            changed = {name: values + np.float32(shift) for name, values in weights.items()}
            if changed:
                shown = ", ".join(changed) if len(changed) < len(names) else "all norms"
                yield Change("repair", "norm-shift", f"{shown} {text}", changed)


def _rare_repairs(head: HeadAlone) -> Iterator[Change]:
    name, project = _projection(head)
    yield Change("repair", "negated", f"{name} has the wrong sign", {name: -project})
    for power in (*(-one for one in _POWERS), *_POWERS):
        text = f"{name} is too {'large' if power < 0 else 'small'} by 2^{abs(power)}"
        yield Change("repair", "scale", text, {name: project * np.float32(2.0**power)})
    for tensor in head.model.tensors:
        values = head.weight(tensor) if tensor.endswith(".weight") else None
        if values is not None and values.ndim == 2 and values.shape[0] == values.shape[1]:
            turned = np.ascontiguousarray(values.T)
            yield Change("repair", "transposed", f"{tensor} is transposed", {tensor: turned})


def _outcome(head: HeadAlone, change: Change, before: Right) -> Outcome:
    after = head.right(change.weights, other_hidden=change.other_hidden)
    names = {name: np.empty(0, np.float32) for name in change.weights}
    return Outcome(
        Change(change.kind, change.code, change.text, names, change.other_hidden),
        float(after.mean()),
        int((after & ~before).sum()),
        int((before & ~after).sum()),
    )


def _block(head: HeadAlone) -> str:
    return _projection(head)[0].split(".nextn.")[0]


def _projection(head: HeadAlone) -> tuple[str, Array]:
    name = next(one for one in head.model.tensors if one.endswith(".nextn.eh_proj.weight"))
    values = head.weight(name)
    assert values is not None
    return name, values
