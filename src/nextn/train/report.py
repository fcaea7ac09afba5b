"""What a training says about itself: a picture and a model card beside the head."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nextn.plots import picture
from nextn.train.settings import DataSettings, TrainSettings


@dataclass(slots=True)
class History:
    """What was measured while training.

    Attributes:
        losses: records with `step` and `kl`, the mean KL of each step of the chains; the depth
            grows, so later records are longer.
        validations: records with `step`, `seconds`, and `rates` by category: acceptance by place in
            the chain, given that all before were right; "all" is all categories together.
    """

    losses: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)


def plot_history(history: History, path: Path) -> bool:
    """Draw acceptance by step and category, if matplotlib is there.

    Args:
        history: what was measured.
        path: an SVG or PNG file.

    Returns:
        Whether it was drawn.
    """
    if find_spec("matplotlib") is None or not history.validations:
        return False
    with picture(path, charts=3, figsize=(13, 3.8)) as (_, axes):
        loss, curve, bars = axes
        _plot_losses(loss, history.losses)
        _plot_rates(curve, history.validations)
        _plot_categories(bars, history.validations[-1]["rates"])
        for axis in axes:
            axis.legend(frameon=False, fontsize="small")
    return True


def _plot_losses(axis: Any, losses: Sequence[Mapping[str, Any]]) -> None:
    for place in range(max((len(record["kl"]) for record in losses), default=0)):
        deep = [record for record in losses if len(record["kl"]) > place]
        steps = [record["step"] for record in deep]
        axis.plot(steps, [record["kl"][place] for record in deep], label=_ordinal(place))
    axis.set(title="loss", xlabel="step", ylabel="KL(trunk || head), nats", yscale="log")


def _plot_rates(axis: Any, validations: Sequence[Mapping[str, Any]]) -> None:
    steps = [record["step"] for record in validations]
    depth = len(validations[0]["rates"]["all"])
    for place in range(depth):
        rates = [record["rates"]["all"][place] for record in validations]
        axis.plot(steps, rates, "o-", markersize=3, label=_ordinal(place))
    axis.set(title="acceptance of held-out texts, greedy", xlabel="step", ylim=(0, 1))


def _plot_categories(axis: Any, rates: Mapping[str, Sequence[float | None]]) -> None:
    names = [*sorted(name for name in rates if name != "all"), "all"]
    depth = len(rates["all"])
    for place in range(depth):
        places = [at + 0.8 * (place + 0.5) / depth - 0.4 for at in range(len(names))]
        heights = [rates[name][place] or 0.0 for name in names]
        axis.bar(places, heights, 0.8 / depth, label=_ordinal(place))
    axis.set(title="acceptance by category, at the end", ylim=(0, 1))
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")


def _ordinal(place: int) -> str:
    return f"{('1st', '2nd', '3rd')[place] if place < 3 else f'{place + 1}th'} draft"


def model_card(
    *,
    name: str,
    model: str,
    facts: Mapping[str, str],
    data: DataSettings,
    training: TrainSettings,
    history: History,
    picture: str | None,
) -> str:
    """The model card, in Markdown.

    Args:
        name: of the head's file.
        model: what the head is for.
        facts: further rows of the first table.
        data: how the data was made.
        training: how it was trained.
        history: what was measured.
        picture: file name of the plot, if there is one.
    """
    lines = [
        f"# {name}",
        "",
        f"A nextn head for {model}: it drafts tokens that the model then checks, so that text "
        "comes faster and stays the same. It works with this model alone.",
        "",
        f"    nextn run MODEL --head {name}",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in facts.items()),
        "",
        "## Data",
        "",
        "All text was written by the model itself, with nextn's own executor: answers to seed "
        "prompts, and to questions that the model invents. The targets are the model's own "
        "distributions.",
        "",
        *_settings_table(data),
        "",
        "## Training",
        "",
        "The loss compares the model's distribution over the draft vocabulary with the head's, "
        "over a chain of drafts that feed each other: the KL divergence where they have little in "
        "common, and what they do not have in common where it is much.",
        "",
        *_settings_table(training),
        "",
    ]
    if history.validations:
        lines += _figures(history.validations[-1])
    if picture is not None:
        lines += [f"![Loss and acceptance while training]({picture})", ""]
    version = importlib.metadata.version("nextn")
    lines += [f"Made with `nextn train`, nextn {version}.", ""]
    return "\n".join(lines)


def _settings_table(settings: DataSettings | TrainSettings) -> list[str]:
    rows = [f"| {key.replace('_', ' ')} | {value} |" for key, value in settings.identity().items()]
    return ["| setting | value |", "| --- | --- |", *rows]


def _figures(validation: Mapping[str, Any]) -> list[str]:
    rates: Mapping[str, Sequence[float | None]] = validation["rates"]
    depth = len(rates["all"])
    head = " | ".join(_ordinal(place) for place in range(depth))
    lines = [
        "## Acceptance",
        "",
        "Held-out prompts, greedy: how often the head's most probable token is the model's choice, "
        "given that all drafts before it in the chain were right.",
        "",
        f"| category | {head} |",
        f"| --- | {' | '.join(['---:'] * depth)} |",
    ]
    for name in [*sorted(name for name in rates if name != "all"), "all"]:
        cells = ("-" if rate is None else f"{rate:.3f}" for rate in rates[name])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]
