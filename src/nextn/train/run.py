"""The whole work of `nextn train`: data, vocabulary, training, validation, files.

Everything goes into a work folder first and can be broken off at any time: the same command goes
on from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nextn.backends.cpu.threads import default_threads
from nextn.engine.interrupts import DeferredInterrupts
from nextn.errors import MemoryLimitError, RequestError
from nextn.files import Checkpoint, open_checkpoint
from nextn.models.nextn_head import load_head_plan
from nextn.text.tokenizer import load_tokenizer
from nextn.train.acceptance import Acceptance, total
from nextn.train.batches import Batch, make_batch, plan_batches, usable
from nextn.train.export import export_head
from nextn.train.head import Head, head_from_file, new_head
from nextn.train.projection import fit_projection
from nextn.train.report import History
from nextn.train.settings import TrainSettings
from nextn.train.shards import StoredText
from nextn.train.sharpness import SCALES
from nextn.train.trainer import Trainer, endless_batches, read_checkpoint
from nextn.train.vocabulary import choose_vocabulary, coverage_of

CHECKPOINT = "checkpoint.pt"
_SECONDS_PER_CHECKPOINT = 120.0
_LOSSES = 200  # points of the curve
_SHARPENED_AT = 4000  # positions
_LAST_NORM = "nextn.shared_head_norm.weight"


class Observer(Protocol):
    """Shows people how far the work is."""

    def __call__(self, activity: str, done: int, total: int | None, /) -> None:
        """How much of an activity is done, in tokens."""

    def note(self, line: str, /) -> None:
        """Something worth a line."""


class HeadTraining:
    """A training from the first step, or from its checkpoint, to the last.

    Args:
        trunk: the model.
        texts: what to train on.
        held_out: what to measure acceptance with.
        settings: how.
        work: folder of the checkpoint.
        init: a head to begin with; its draft vocabulary counts when the new one is chosen. By
            default a new head.
        observer: is told about progress.

    Attributes:
        head: what is trained.
        history: what was measured.
        coverage: share of the written tokens that are in the draft vocabulary: of the texts to
            train on, and of those held out.
        sharpness: what the logits of the head were multiplied with in the end.

    Raises:
        RequestError: too little data, a checkpoint of another training, or a head that cannot be
            trained on.
    """

    def __init__(
        self,
        trunk: Checkpoint,
        texts: Sequence[StoredText],
        held_out: Sequence[StoredText],
        settings: TrainSettings,
        work: Path,
        *,
        init: Path | None,
        observer: Observer,
    ) -> None:
        if settings.average and init is None:
            raise RequestError("--average mixes a head with that of --init; give one")
        self._init = init
        torch.set_num_threads(settings.threads or default_threads())
        self._trunk = trunk
        self._settings = settings
        self._path = work / CHECKPOINT
        self._observer = observer
        self._texts = [text for text in texts if usable(text, settings.longest)]
        self._held_out = [text for text in held_out if usable(text, settings.longest)]
        if not self._texts or not self._held_out:
            raise RequestError(
                f"{work}: holds {len(self._texts)} texts to train on and {len(self._held_out)} "
                "held out; write more with --tokens"
            )
        counts = count_tokens(self._texts, len(trunk.tokenizer.tokens))
        state = read_checkpoint(self._path) if self._path.exists() else None
        self.head = self._make_head(counts, init, state)
        held_out_counts = count_tokens(self._held_out, len(counts))
        self.coverage = tuple(
            coverage_of(each, self.head.token_ids) for each in (counts, held_out_counts)
        )
        self.history = History()
        self.sharpness = 1.0
        self._trainer = Trainer(self.head, settings)
        self._elapsed = 0.0
        self._rows = 0
        self._recent: list[list[float]] = []  # losses since the last point of the curve
        if state is not None:
            self._resume(state)

    def run(self) -> None:
        """Train until the budget is spent.

        Raises:
            TrainingError: the loss is not a number.
            MemoryLimitError: it does not fit.
            KeyboardInterrupt: Ctrl-C, after a checkpoint.
            OSError: a checkpoint cannot be written; the one before is still there.
        """
        batches = self._batches()
        saved = time.monotonic()
        started = saved - self._elapsed
        if not self.history.validations:
            self._validate()
        try:
            for batch in batches:
                progress = self._progress()
                if progress >= 1.0:
                    break
                with DeferredInterrupts(), _out_of_memory():
                    losses = self._trainer.train(batch, progress)
                    self._rows += batch.tokens.size
                    self._elapsed = time.monotonic() - started
                self._record(losses, progress)
                if time.monotonic() - saved > _SECONDS_PER_CHECKPOINT:
                    self.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self.save()
            raise
        trained = self.head.values()
        self._average(trained)
        self._validate(last=True)
        self._sharpen()
        result = self.head.values()
        # A training that goes on later does so from where it was.
        self.head.load(trained)
        self.save()
        self.head.load(result)

    def _average(self, trained: dict[str, NDArray[np.float32]]) -> None:
        """Take the mean of the weights and of those that the training began with.

        What new texts teach comes together with what others taught; the mean is better than both
        ("WiSE-FT", Wortsman et al., 2022).
        """
        share = self._settings.average
        if self._init is None or not share:
            return
        with open_checkpoint(self._init) as file:
            first = head_from_file(self._trunk, file, self.head.token_ids, self.head.device)
        self.head.load(
            {
                name: share * values + (1 - share) * trained[name]
                for name, values in first.values().items()
            }
        )

    def _sharpen(self) -> None:
        """Scale the head's logits so that sampled drafts are right as often as they can be."""
        generator = torch.Generator().manual_seed(self._settings.seed)
        batches = self._held_out_batches(self._held_out)
        most = -(-_SHARPENED_AT // len(batches))
        counts = torch.zeros(len(SCALES), dtype=torch.float64)
        with _out_of_memory():
            for texts in batches:
                batch = make_batch(texts, self._settings.longest)
                counts += self._trainer.agreements(batch, most, generator)
        best = int(counts.argmax())
        self.sharpness = SCALES[best]
        self._observer.note(
            f"logits times {self.sharpness:g}: head and trunk choose the same at temperature 0.8 "
            f"{float(counts[best] / counts[0].clamp(min=1.0)) - 1:.1%} more often"
        )
        (norm,) = (name for name in self.head.trained if name.endswith(_LAST_NORM))
        values = self.head.values()
        values[norm] *= self.sharpness
        self.head.load(values)

    def save(self) -> None:
        """Write the checkpoint."""
        self._trainer.save(
            self._path,
            {
                "identity": self._settings.identity(),
                "elapsed": self._elapsed,
                "rows": self._rows,
                "recent": self._recent,
                "losses": self.history.losses,
                "validations": self.history.validations,
            },
        )

    def export(self, path: Path) -> None:
        """Write the head's file."""
        head = self.head
        export_head(path, self._trunk, head.values(), head.token_ids, head.own_output)

    @property
    def facts(self) -> dict[str, str]:
        """Figures for the model card."""
        written = sum(text.written for text in self._texts)
        parameters = sum(x.numel() for x in self.head.trained.values())
        return {
            "parameters": f"{parameters:,}",
            "draft vocabulary": f"{len(self.head.token_ids):,} tokens: {self.coverage[0]:.2%} of "
            f"what the model wrote, {self.coverage[1]:.2%} of the held-out texts",
            "texts": f"{len(self._texts):,}, {written:,} written tokens",
            "steps": f"{self._trainer.step:,}, {self._rows:,} rows",
            "sharpness": f"logits times {self.sharpness:g}, for sampled drafts",
            "time": f"{self._elapsed / 60:.0f} min, {torch.get_num_threads()} threads, "
            f"{self.head.device.type}",
        }

    def _make_head(
        self, counts: NDArray[np.int64], init: Path | None, state: dict[str, Any] | None
    ) -> Head:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with _out_of_memory():
            if state is not None:
                return new_head(self._trunk, state["token_ids"].numpy(), device)
            ends = load_tokenizer(self._trunk.tokenizer).end_of_generation
            if init is not None:
                with open_checkpoint(init) as file:
                    before = load_head_plan(self._trunk, file).head.token_ids or ()
                    ids = self._choose_vocabulary(counts, ends, before)
                    return head_from_file(self._trunk, file, ids, device)
            ids = self._choose_vocabulary(counts, ends)
            self._observer.note("fitting the head's projection")
            settings = self._settings
            projection = fit_projection(
                self._trunk, self._texts, longest=settings.longest, threads=settings.threads
            )
            return new_head(self._trunk, ids, device, projection)

    def _choose_vocabulary(
        self, counts: NDArray[np.int64], ends: Iterable[int], before: Iterable[int] = ()
    ) -> NDArray[np.int32]:
        return choose_vocabulary(
            counts,
            most=self._settings.draft_vocabulary,
            coverage=self._settings.coverage,
            always=ends,
            before=before,
        )

    def _resume(self, state: dict[str, Any]) -> None:
        identity = self._settings.identity()
        different = sorted(k for k in identity if state["identity"].get(k) != identity[k])
        # A longer or shorter training is still the same one, and the mean is taken at its end.
        free = ("steps", "hours", "validations", "average")
        different = [name for name in different if name not in free]
        if different:
            raise RequestError(
                f"{self._path}: belongs to a training with another {', '.join(different)}; give "
                "the same settings, or remove it to start anew"
            )
        self._trainer.load(state)
        self._elapsed = state["elapsed"]
        self._rows = state["rows"]
        self._recent = state["recent"]
        validations = state["validations"]
        if state["identity"].get("average") != identity["average"]:
            # The last one may be of another mean of the same weights.
            validations = [one for one in validations if one["step"] < self._trainer.step]
        self.history = History(state["losses"], validations)
        self._observer.note(f"going on after step {self._trainer.step}")

    def _batches(self) -> Iterator[Batch]:
        settings = self._settings
        lengths = np.array([min(len(text.tokens) - 1, settings.longest) for text in self._texts])

        def order(rng: np.random.Generator) -> list[list[int]]:
            return plan_batches(lengths, settings.batch_tokens, rng)

        for numbers in endless_batches(order, settings.seed, self._trainer.step):
            yield make_batch([self._texts[number] for number in numbers], settings.longest)

    def _progress(self) -> float:
        """Share of the budget that is spent."""
        if self._settings.steps is not None:
            return self._trainer.step / self._settings.steps
        return self._elapsed / (3600.0 * (self._settings.hours or 1.0))

    def _record(self, losses: list[float], progress: float) -> None:
        now = self._progress()
        self._observer("training", self._rows, int(self._rows / max(now, 1e-9)))
        # Batches differ much, since each holds texts of one length; and the depth grows.
        self._recent = [each for each in self._recent if len(each) == len(losses)] + [losses]
        due = int(_LOSSES * now) > int(_LOSSES * progress)
        if due or not self.history.losses:
            means = np.mean(self._recent, axis=0).tolist()
            self.history.losses.append({"step": self._trainer.step, "kl": means})
            self._recent = []
        count = self._settings.validations
        if int(count * now) > int(count * progress) and now < 1.0:
            self._validate()

    def _validate(self, *, last: bool = False) -> None:
        done = self.history.validations
        if last and done and done[-1]["step"] == self._trainer.step:
            return
        parts: dict[str, list[Acceptance]] = {}
        by_category: dict[str, list[StoredText]] = {}
        for text in self._held_out:
            by_category.setdefault(text.category, []).append(text)
        with _out_of_memory():
            for category, of_category in by_category.items():
                for texts in self._held_out_batches(of_category):
                    counted = self._trainer.accepts(make_batch(texts, self._settings.longest))
                    parts.setdefault(category, []).append(counted)
        depth = self._settings.depth
        pooled = {category: total(counts, depth) for category, counts in parts.items()}
        pooled["all"] = total(list(pooled.values()), depth)
        rates = {category: counts.rates for category, counts in sorted(pooled.items())}
        done.append({"step": self._trainer.step, "seconds": self._elapsed, "rates": rates})
        self._observer.note(self._validation_line(pooled))

    def _held_out_batches(self, texts: Sequence[StoredText]) -> list[list[StoredText]]:
        """Divide held-out texts into batches, the longest first."""
        lengths = np.array([len(text.tokens) for text in texts])
        cut = plan_batches(lengths, self._settings.batch_tokens, None)
        return [[texts[index] for index in batch] for batch in cut]

    def _validation_line(self, pooled: dict[str, Acceptance]) -> str:
        def shown(rates: list[float | None]) -> str:
            return " ".join("-" if rate is None else f"{rate:.3f}" for rate in rates)

        both = pooled["all"]
        first = ", ".join(
            f"{name} {counts.rates[0] or 0:.2f}"
            for name, counts in sorted(pooled.items())
            if name != "all"
        )
        speed = self._rows / self._elapsed if self._elapsed else 0.0
        kl = self.history.losses[-1]["kl"] if self.history.losses else []
        return (
            f"step {self._trainer.step}, {self._elapsed / 60:.1f} min, {speed:,.0f} tokens/s, "
            f"KL {' '.join(f'{value:.2f}' for value in kl)}; accepted {shown(both.rates)}, "
            f"{both.tokens_per_step:.2f} tokens per step; first by category: {first}"
        )


def count_tokens(texts: Sequence[StoredText], vocabulary: int) -> NDArray[np.int64]:
    """How often the trunk wrote each token: int64 [vocabulary]."""
    counts = np.zeros(vocabulary, np.int64)
    for text in texts:
        counts += np.bincount(text.tokens[text.written_from :], minlength=vocabulary)
    return counts


@contextmanager
def _out_of_memory() -> Iterator[None]:
    """PyTorch says in its own way that there is no memory left."""
    try:
        yield
    except RuntimeError as error:
        if "not enough memory" in str(error) or "out of memory" in str(error):
            raise MemoryLimitError(
                "out of memory; go on with a smaller --batch-tokens, or a smaller --longest"
            ) from error
        raise
