"""What was measured, as tables for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nextn.backends import Executor
from nextn.bench.limits import Limits
from nextn.bench.measure import Measurement, spread
from nextn.bench.tables import Row, aligned, markdown
from nextn.files import Checkpoint

_BAR_WIDTH = 32
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class ModelLine:
    """What was measured.

    Attributes:
        name: what the model is called.
        architecture: of the model.
        format: the block format of most of its bytes.
        parameters: elements of all tensors.
        file_bytes: size of its file.
        backend: what computed.
        kernels: the instruction set; None where there is no choice.
        threads: threads that computed.
        cache_type: how keys and values were kept.
    """

    name: str
    architecture: str
    format: str
    parameters: int
    file_bytes: int
    backend: str
    kernels: str | None
    threads: int
    cache_type: str = "f16"

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, name: str, executor: Executor, cache_type: str = "f16"
    ) -> ModelLine:
        """Describe a model and its executor."""
        sizes: dict[str, int] = {}
        for tensor in checkpoint.tensors.values():
            kind = tensor.block_type.name
            sizes[kind] = sizes.get(kind, 0) + tensor.nbytes
        return cls(
            name=name,
            architecture=checkpoint.architecture,
            format=max(sizes, key=lambda kind: sizes[kind]),
            parameters=sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values()),
            file_bytes=checkpoint.file_bytes,
            backend=executor.backend,
            kernels=getattr(executor, "kernels", None),
            threads=executor.threads,
            cache_type=cache_type,
        )

    @property
    def computing(self) -> str:
        """Such as "cpu (avx512)", with the type of the cache if it is not the usual one."""
        with_kernels = self.backend if self.kernels is None else f"{self.backend} ({self.kernels})"
        return with_kernels if self.cache_type == "f16" else f"{with_kernels}, {self.cache_type}"


@dataclass(frozen=True, slots=True)
class Report:
    """A finished benchmark.

    Attributes:
        model: what was measured.
        measurements: every case.
        limits: what the machine allows; None if it was not measured.
    """

    model: ModelLine
    measurements: tuple[Measurement, ...]
    limits: Limits | None

    @property
    def tests(self) -> list[Measurement]:
        """All but the verification curves."""
        return [one for one in self.measurements if one.case.kind != "rows"]

    @property
    def curves(self) -> dict[int, list[Measurement]]:
        """The verification curve of each depth, one row first."""
        curves: dict[int, list[Measurement]] = {}
        for one in self.measurements:
            if one.case.kind == "rows":
                curves.setdefault(one.case.depth, []).append(one)
        return curves

    def share(self, measurement: Measurement) -> float | None:
        """The least possible time as a share of the measured one; None without limits."""
        if self.limits is None:
            return None
        return self.limits.seconds(measurement.work) / measurement.median

    def as_text(self, *, blocks: bool = True) -> str:
        """Tables for a terminal.

        Args:
            blocks: draw bars of block characters; without, of number signs.
        """
        model = self.model
        parts = [
            f"{model.name}: {model.architecture} {model.format}, "
            f"{_parameters(model.parameters)} parameters, {model.file_bytes / 1e6:,.0f} MB; "
            f"{model.computing}, {model.threads} thread{'' if model.threads == 1 else 's'}"
        ]
        if self.limits is not None:
            parts[0] += (
                f"\nlimit: reading {self.limits.bandwidth / 1e9:.1f} GB/s, multiplying "
                f"{self.limits.products / 1e9:.0f} billion 8-bit pairs/s; a step needs at least "
                "the longer of both"
            )
        if self.tests:
            head = ("TEST", "TOKENS/S", "±", "MS/STEP", "OF LIMIT")
            parts.append(aligned([head, *(self._test_row(one) for one in self.tests)]))
        for depth, curve in self.curves.items():
            bars = _bars([one.median for one in curve], blocks=blocks)
            rows = [(*row, bar) for row, bar in zip(self._curve_rows(curve), bars, strict=True)]
            title = f"ROWS @ d{depth}" if depth else "ROWS"
            parts.append(aligned([(title, "MS", "±", "RATIO", "OF LIMIT", ""), *rows], left=(0, 5)))
        return "\n\n".join(parts)

    def as_markdown(self) -> str:
        """Tables in the manner of llama-bench, to be pasted into a page."""
        model = self.model
        lead = (
            f"{model.name} {model.architecture} {model.format}",
            f"{model.file_bytes / (1 << 20):.2f} MiB",
            _parameters(model.parameters),
            model.computing,
            str(model.threads),
        )
        parts = []
        if self.tests:
            head = ("model", "size", "params", "backend", "threads", "test", "t/s", "of limit")
            rows = [
                (*lead, one.case.name, f"{one.rate:.2f} ± {one.rate_spread:.2f}", self._share(one))
                for one in self.tests
            ]
            parts.append(markdown([head, *rows], text_columns=(0, 3, 5)))
        for depth, curve in self.curves.items():
            title = f"rows @ d{depth}" if depth else "rows"
            curve_head = (title, "ms", "±", "ratio", "of limit")
            parts.append(markdown([curve_head, *self._curve_rows(curve)], text_columns=()))
        return "\n\n".join(parts)

    def as_record(self) -> dict[str, Any]:
        """Everything, as one JSON object; times in seconds, of every repetition."""
        return {
            "model": asdict(self.model),
            "limits": None if self.limits is None else asdict(self.limits),
            "tests": [
                {
                    **self._record(one),
                    "tokens_per_second": one.rate,
                    "tokens_per_second_spread": one.rate_spread,
                }
                for one in self.tests
            ],
            "verification": [
                {**self._record(one), "ratio": one.median / curve[0].median}
                for curve in self.curves.values()
                for one in curve
            ],
        }

    def _record(self, one: Measurement) -> dict[str, Any]:
        return {
            "test": one.case.name,
            **asdict(one.case),
            "seconds": list(one.seconds),
            "median_seconds": one.median,
            "bytes": one.work.bytes,
            "products": one.work.products,
            "limit_seconds": None if self.limits is None else self.limits.seconds(one.work),
        }

    def _test_row(self, one: Measurement) -> Row:
        steps = one.case.tokens if one.case.kind == "decode" else None
        return (
            one.case.name,
            f"{one.rate:.1f}",
            f"{one.rate_spread:.1f}",
            "" if steps is None else f"{1e3 * one.median / steps:.2f}",
            self._share(one),
        )

    def _curve_rows(self, curve: Sequence[Measurement]) -> Iterator[Row]:
        for one in curve:
            yield (
                str(one.case.tokens),
                f"{1e3 * one.median:.2f}",
                f"{1e3 * spread(one.seconds):.2f}",
                f"{one.median / curve[0].median:.2f}",
                self._share(one),
            )

    def _share(self, one: Measurement) -> str:
        share = self.share(one)
        return "" if share is None else f"{share:.0%}"


def _bars(values: Sequence[float], *, blocks: bool) -> list[str]:
    """Bars from 0; the longest one is _BAR_WIDTH wide."""
    bars = []
    for value in values:
        eighths = round(8 * _BAR_WIDTH * value / max(values))
        if blocks:
            bars.append("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip())
        else:
            bars.append("#" * round(eighths / 8))
    return bars


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 999.5e6 else f"{count / 1e6:.2f} M"
