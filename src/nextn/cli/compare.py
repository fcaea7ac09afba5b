"""`nextn compare`: how far two models' predictions are apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import backend_option, cache_type_option, offline_option, threads_option
from nextn.cli.text import one_line, table

if TYPE_CHECKING:
    from nextn.tools.compare import Comparison, Distribution, Divergence, Estimate

_TEXT = "Text"
_LOGITS = "Stored logits"
_OUTPUT = "Output"


@click.command(
    cls=Verb,
    name="compare",
    examples=(
        "nextn compare model-q8_0.gguf model-q4_0.gguf",
        "nextn compare model-f16.gguf --text wiki.test.raw --save-logits base.kld",
        "nextn compare --logits base.kld model-q4_0.gguf",
    ),
)
@click.argument("first", metavar="[BASE]", required=False)
@click.argument("second", metavar="[MODEL]", required=False)
@threads_option
@backend_option
@cache_type_option
@offline_option
@option(
    _TEXT,
    "--text",
    "-f",
    "--file",
    "text",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A text in UTF-8.  [default: the evaluation prompts that come with nextn]",
)
@option(
    _TEXT,
    "-c",
    "--ctx-size",
    "--context",
    "context",
    type=int,
    metavar="N",
    help="Tokens of a chunk.  [default: 512, or as the stored logits]",
)
@option(_TEXT, "--chunks", type=int, metavar="N", help="Most chunks to read.  [default: all]")
@option(
    _LOGITS,
    "--save-logits",
    "--kl-divergence-base",
    "save_logits",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the log-probabilities of BASE, as llama-perplexity --kl-divergence-base does.",
)
@option(
    _LOGITS,
    "--logits",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with such a file instead of a BASE; it holds the text, too.",
)
@option(_OUTPUT, "--json", "as_json", is_flag=True, help="Write one JSON object.")
@option(_OUTPUT, "-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def command(
    first: str | None,
    second: str | None,
    logits: Path | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the predictions of MODEL with those of BASE: another quantisation, or a fine-tune.

    Perplexity says how well a model foresees a text, the Kullback-Leibler divergence how far the
    predictions of one are from those of the other. Both are computed as llama-perplexity does: the
    text is read in chunks, the second half of each is scored, and the predictions of BASE are
    rounded to 16 bits. So figures for the same text and context can be compared. Both models must
    have the same vocabulary.

    With one model, its perplexity alone is measured; with --logits, BASE need not be run.
    """
    given = [name for name in (first, second) if name is not None]
    if logits is not None and len(given) != 1:
        raise click.UsageError("give one model with --logits")
    if not given:
        raise click.UsageError("give one or two models")
    from nextn.cli.loading import find_model
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.compare import CompareSettings, compare_models

    sources = [find_model(name, offline=offline, quiet=quiet) for name in given]
    base = None if logits is not None else sources[0]
    model = sources[-1] if logits is not None or len(sources) > 1 else None
    settings = CompareSettings(logits=logits, **options)
    with ProgressDisplay(quiet=quiet, counted="tokens", speed=True) as progress:
        found = compare_models(
            base, model, settings, lambda done, total: progress("comparing", done, total)
        )
    click.echo(json.dumps(found.as_record(), indent=2) if as_json else _page(found))


def _page(found: Comparison) -> str:
    rows = [
        ("base", found.base),
        *([("model", found.model)] if found.model is not None else []),
        (
            "text",
            f"{found.text}: {found.chunks} chunks of {found.context} tokens, "
            f"{found.positions:,} predictions",
        ),
        ("perplexity of base", _text(found.base_perplexity, 4)),
        *([("perplexity", _text(found.perplexity, 4))] if found.perplexity is not None else []),
        *(_divergence_rows(found.divergence) if found.divergence is not None else []),
        *(("note", note) for note in found.notes),
    ]
    parts = [table([(title, one_line(text)) for title, text in rows])]
    if found.divergence is not None:
        parts.append(table(list(_percentile_rows(found.divergence))))
    return "\n\n".join(parts)


def _divergence_rows(found: Divergence) -> Iterator[tuple[str, str]]:
    yield "ratio", f"{_text(found.ratio, 5)}, its logarithm {_text(found.log_ratio, 5)}"
    yield "correlation", f"{100 * found.correlation:.2f} % of the losses"
    yield "KL divergence", _text(found.kl.mean, 6)
    if found.kl_exact is not None:
        yield "without rounding", f"{_text(found.kl_exact, 6)}, over all tokens in float32"
    yield "change of p", f"{_text(found.probability.mean, 3, 100)} %"
    yield "RMS change of p", f"{_text(found.probability_rms, 3, 100)} %"
    yield "same top token", f"{_text(found.same_top, 3, 100)} %"


def _percentile_rows(found: Divergence) -> Iterator[tuple[str, ...]]:
    names = {100.0: "maximum", 50.0: "median", 0.0: "minimum"}
    yield ("PERCENTILE", "KL DIVERGENCE", "CHANGE OF P, %")
    for percent, value in found.kl.percentiles.items():
        change = _percentile(found.probability, percent)
        yield (names.get(percent, f"{percent:g} %"), f"{value:.6f}", f"{100 * change:.3f}")


def _percentile(found: Distribution, percent: float) -> float:
    return found.percentiles[percent]


def _text(found: Estimate, digits: int, times: float = 1.0) -> str:
    return f"{times * found.value:.{digits}f} ± {times * found.error:.{digits}f}"
