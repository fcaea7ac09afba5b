"""`nextn convert`: a GGUF file from a safetensors checkpoint, its prediction head included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.text import bytes_text, one_line, table

if TYPE_CHECKING:
    from nextn.tools.convert import ConvertResult, Part

# Those of `nextn.tools.convert`, which is imported when the verb runs; a test compares.
TYPES = ("auto", "f32", "f16", "bf16", "q8_0")
_SHOWN = 4


@click.command(
    cls=Verb,
    name="convert",
    examples=(
        "nextn convert Qwen3-0.6B qwen3-0.6b.gguf",
        "nextn convert model-FP8 model.gguf --type q8_0",
        "nextn convert model mtp-model.gguf --head-only",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@option(
    "Output",
    "--type",
    "output_type",
    type=click.Choice(TYPES),
    default="auto",
    show_default=True,
    help="What matrices become; auto keeps 16 and 32 bits, and makes BF16 of all else.",
)
@option("Output", "--head-only", is_flag=True, help="Write a file with the prediction head alone.")
@option("Output", "--no-head", is_flag=True, help="Leave the prediction head out, and say so.")
@option("Output", "--json", "as_json", is_flag=True, help="Write one JSON object.")
@debug_option
def command(
    folder: Path, output: Path, output_type: str, head_only: bool, no_head: bool, as_json: bool
) -> None:
    """Convert a safetensors checkpoint to a GGUF file.

    FOLDER is a folder as the Hugging Face hub has it, with config.json, tokenizer.json and weights
    as they are: BF16, F16, F32, FP8, NVFP4, MXFP4, GPTQ, AWQ, or compressed-tensors integers.
    """
    if head_only and no_head:
        raise click.UsageError("give --head-only or --no-head, not both")
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.convert import convert

    part: Part = "head" if head_only else "trunk" if no_head else "all"
    with ProgressDisplay() as progress:
        result = convert(folder, output, output_type=output_type, part=part, progress=progress)
    if as_json:
        click.echo(json.dumps(_record(result), indent=2))
    else:
        click.echo(_page(result))


def _record(result: ConvertResult) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(result), "path": str(result.path)}


def _page(result: ConvertResult) -> str:
    rows = [
        ("file", f"{result.path}, {bytes_text(result.bytes)}, {result.tensors} tensors"),
        ("architecture", result.architecture),
        ("stored as", _sizes(result.layouts)),
        ("written as", _sizes(result.types)),
        ("head", result.head),
    ]
    if result.left_out:
        names = ", ".join(result.left_out[:_SHOWN])
        more = len(result.left_out) - _SHOWN
        rows.append(("left out", names + (f" and {more} more" if more > 0 else "")))
    rows += [("note", note) for note in result.notes]
    return table([(title, one_line(text)) for title, text in rows])


def _sizes(sizes: dict[str, int]) -> str:
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} ({bytes_text(size)})" for name, size in ordered)
