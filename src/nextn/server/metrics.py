"""Counts for Prometheus, under the names of llama-server and vLLM, which dashboards know."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from starlette.responses import Response

from nextn.server.operation import Call, Family, Operation

if TYPE_CHECKING:
    from nextn.engine.statistics import Statistics
    from nextn.server.models import LoadedModel
    from nextn.server.state import Server

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Histogram:
    """Counts of values by size.

    Args:
        bounds: upper bounds of the buckets, ascending; a last bucket has no bound.
    """

    def __init__(self, bounds: tuple[float, ...] = _SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class ModelMetrics:
    """What became of the texts of one model that have ended; times in seconds.

    Attributes:
        finished: texts by their finish reason; "abort" for those that were cancelled.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_seconds: float = 0.0
    tokens: int = 0
    writing_seconds: float = 0.0
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_at: list[int] = field(default_factory=list)
    finished: dict[str, int] = field(default_factory=dict)
    time_to_first_token: Histogram = field(default_factory=Histogram)
    time_per_output_token: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)
    queue_time: Histogram = field(default_factory=Histogram)

    def add(self, statistics: Statistics, finish_reason: str) -> None:
        """Count a text that has ended."""
        self.finished[finish_reason] = self.finished.get(finish_reason, 0) + 1
        if not statistics.tokens:
            return
        self.prompt_tokens += statistics.prompt_tokens - statistics.cached_tokens
        self.cached_tokens += statistics.cached_tokens
        self.prompt_seconds += statistics.prompt_seconds
        self.tokens += statistics.tokens
        self.writing_seconds += statistics.writing_seconds
        self.drafts += statistics.drafted_at[0] if statistics.drafted_at else 0
        self.drafted += statistics.drafted
        self.accepted += statistics.accepted
        # Of a text that was cancelled they may still grow, in the thread of its engine.
        accepted_at = tuple(statistics.accepted_at)
        self.accepted_at += [0] * (len(accepted_at) - len(self.accepted_at))
        for index, count in enumerate(accepted_at):
            self.accepted_at[index] += count
        self.time_to_first_token.add(statistics.time_to_first_token)
        self.queue_time.add(max(statistics.time_to_first_token - statistics.prompt_seconds, 0.0))
        self.latency.add(statistics.seconds)
        if statistics.tokens > 1:
            self.time_per_output_token.add(statistics.writing_seconds / (statistics.tokens - 1))


class Metrics:
    """The counts of all models of a server."""

    def __init__(self) -> None:
        self.models: dict[str, ModelMetrics] = {}

    def add(self, model: str, statistics: Statistics, finish_reason: str) -> None:
        """Count a text that has ended."""
        self.models.setdefault(model, ModelMetrics()).add(statistics, finish_reason)


def metrics_text(server: Server) -> str:
    """All counts in Prometheus' text format 0.0.4."""
    names = dict.fromkeys((*server.metrics.models, *server.models.loaded))
    series: dict[str, _Metric] = {}
    for name in names:
        counts = server.metrics.models.get(name, ModelMetrics())
        for metric in _metrics(counts, server.models.loaded.get(name)):
            known = series.setdefault(metric.name, metric)
            known.samples += [sample.labelled(name) for sample in metric.values]
    return "".join(metric.text() for metric in series.values())


@dataclass(slots=True)
class _Sample:
    value: float
    suffix: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def labelled(self, model: str) -> str:
        pairs = (("model_name", model), *self.labels)
        labels = ",".join(f'{name}="{_escape(value)}"' for name, value in pairs)
        return f"{self.suffix}{{{labels}}} {self.value:.10g}\n"


@dataclass(slots=True)
class _Metric:
    name: str
    kind: str
    help: str
    values: list[_Sample]
    samples: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"# HELP {self.name} {self.help}\n", f"# TYPE {self.name} {self.kind}\n"]
        return "".join(lines + [f"{self.name}{sample}" for sample in self.samples])


def _metrics(counts: ModelMetrics, loaded: LoadedModel | None) -> Iterator[_Metric]:
    for name, kind, text, value in _numbers(counts, loaded):
        yield _Metric(name, kind, text, [_Sample(value)])
    by_place = [
        _Sample(count, labels=(("position", str(index)),))
        for index, count in enumerate(counts.accepted_at)
    ]
    by_reason = [
        _Sample(count, labels=(("finished_reason", reason),))
        for reason, count in counts.finished.items()
    ]
    for prefix in ("llamacpp", "vllm"):
        yield _Metric(
            f"{prefix}:spec_decode_num_accepted_tokens_per_pos_total",
            "counter",
            "Accepted drafted tokens by their place in the draft.",
            by_place,
        )
    yield _Metric("vllm:request_success_total", "counter", "Texts that ended.", by_reason)
    for name, text, histogram in (
        ("time_to_first_token_seconds", "Time to the first token.", counts.time_to_first_token),
        (
            "request_time_per_output_token_seconds",
            "Time per token after the first.",
            counts.time_per_output_token,
        ),
        ("e2e_request_latency_seconds", "Time of whole texts.", counts.latency),
        ("request_queue_time_seconds", "Time before a text was begun.", counts.queue_time),
    ):
        yield _Metric(f"vllm:{name}", "histogram", text, _buckets(histogram))


def _numbers(
    counts: ModelMetrics, loaded: LoadedModel | None
) -> Iterator[tuple[str, str, str, float]]:
    """Name, kind, help and value of all metrics that are one number."""
    counter, gauge = "counter", "gauge"
    computed = counts.prompt_tokens
    yield "llamacpp:prompt_tokens_total", counter, "Prompt tokens that were computed.", computed
    yield "llamacpp:prompt_seconds_total", counter, "Time of prompts.", counts.prompt_seconds
    yield "llamacpp:tokens_predicted_total", counter, "Tokens that were written.", counts.tokens
    yield (
        "llamacpp:tokens_predicted_seconds_total",
        counter,
        "Time of writing.",
        counts.writing_seconds,
    )
    yield (
        "llamacpp:prompt_tokens_seconds",
        gauge,
        "Prompt tokens per second.",
        _ratio(computed, counts.prompt_seconds),
    )
    yield (
        "llamacpp:predicted_tokens_seconds",
        gauge,
        "Written tokens per second of a text.",
        _ratio(counts.tokens, counts.writing_seconds),
    )
    all_prompt = computed + counts.cached_tokens
    yield "vllm:prompt_tokens_total", counter, "Prompt tokens, cached ones included.", all_prompt
    yield "vllm:generation_tokens_total", counter, "Tokens that were written.", counts.tokens
    yield "vllm:prefix_cache_queries_total", counter, "Prompt tokens looked for.", all_prompt
    yield "vllm:prefix_cache_hits_total", counter, "Prompt tokens found.", counts.cached_tokens
    for prefix in ("llamacpp", "vllm"):
        name = f"{prefix}:spec_decode_num"
        yield f"{name}_drafts_total", counter, "Drafts that were verified.", counts.drafts
        yield f"{name}_draft_tokens_total", counter, "Verified drafted tokens.", counts.drafted
        yield f"{name}_accepted_tokens_total", counter, "Accepted of them.", counts.accepted
    if loaded is None:
        return
    engine = loaded.engine
    running, waiting = engine.running, engine.waiting
    yield "llamacpp:requests_processing", gauge, "Texts that are being written.", running
    yield "llamacpp:requests_deferred", gauge, "Texts that wait.", waiting
    yield "llamacpp:n_decode_total", counter, "Steps.", engine.steps
    yield (
        "llamacpp:n_busy_slots_per_decode",
        gauge,
        "Texts per step.",
        _ratio(engine.busy_sequences, engine.steps),
    )
    yield "vllm:num_requests_running", gauge, "Texts that are being written.", running
    yield "vllm:num_requests_waiting", gauge, "Texts that wait.", waiting
    yield "vllm:num_preemptions_total", counter, "Texts that lost their place.", engine.preemptions
    usage = engine.cache_usage
    yield "vllm:kv_cache_usage_perc", gauge, "Held share of the cache; 1 is all of it.", usage


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _buckets(histogram: Histogram) -> list[_Sample]:
    samples = [
        _Sample(count, "_bucket", (("le", f"{bound:g}"),))
        for bound, count in zip(
            (*histogram.bounds, float("inf")), accumulate(histogram.counts), strict=True
        )
    ]
    samples[-1].labels = (("le", "+Inf"),)
    count = sum(histogram.counts)
    return [*samples, _Sample(histogram.total, "_sum"), _Sample(count, "_count")]


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


async def show_metrics(call: Call[None]) -> Response:
    """The counts, for Prometheus."""
    return Response(metrics_text(call.server), media_type=CONTENT_TYPE)


FAMILY = Family(
    name="Metrics",
    operations=(
        Operation(
            method="GET",
            path="/metrics",
            handle=show_metrics,
            summary="Counts in Prometheus' text format",
        ),
    ),
)
