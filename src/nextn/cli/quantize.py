"""`nextn quantize`: writes a model in smaller block formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import offline_option, threads_option
from nextn.cli.text import bytes_text, one_line, table

if TYPE_CHECKING:
    from nextn.tools.quantise import QuantiseResult

_FORMATS = "Formats"
_RUN = "How it runs"


@click.command(
    cls=Verb,
    name="quantize",
    examples=(
        "nextn quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M",
        "nextn quantize model-f16.gguf out.gguf Q4_K_M --imatrix model.imatrix.gguf",
        "nextn quantize model-f16.gguf out.gguf Q4_K_M --tensor-type 'ffn_down=Q6_K' --dry-run",
    ),
)
@click.argument("model", metavar="IN")
@click.argument("output", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("file_type", metavar="TYPE")
@option(
    _FORMATS,
    "--imatrix",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Weigh errors by an importance matrix, which `nextn imatrix` or llama.cpp made.",
)
@option(
    _FORMATS,
    "--head-type",
    metavar="FORMAT",
    help="Format of a prediction head's matrices, or 'mix' for those of any block.  [default: Q8_0 "
    "or better]",
)
@option(
    _FORMATS,
    "--tensor-type",
    "tensor_types",
    multiple=True,
    metavar="PATTERN=FORMAT",
    help="Format of the tensors whose names contain a regular expression; may be given more than "
    "once, the first that fits counts.",
)
@option(_FORMATS, "--output-tensor-type", "output_type", metavar="FORMAT", help="Of the output.")
@option(
    _FORMATS,
    "--token-embedding-type",
    metavar="FORMAT",
    help="Format of the embedding.",
)
@option(_FORMATS, "--pure", is_flag=True, help="One format for all matrices, whatever their role.")
@option(
    _FORMATS,
    "--allow-requantize",
    is_flag=True,
    help="Also change tensors that are quantised already, which costs quality.",
)
@option(
    _RUN,
    "-n",
    "--dry-run",
    is_flag=True,
    help="Only show what would become of each tensor, and the size.",
)
@threads_option
@offline_option
@option("Output", "--json", "as_json", is_flag=True, help="Write one JSON object.")
@option("Output", "-q", "--quiet", is_flag=True, help="Show no progress and no notes.")
@debug_option
def command(
    model: str,
    output: Path,
    file_type: str,
    imatrix: Path | None,
    tensor_types: tuple[str, ...],
    dry_run: bool,
    threads: int | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **formats: Any,
) -> None:
    """Write the model IN to the file OUT, with its matrices in smaller formats.

    IN is a GGUF model, or a folder with a safetensors checkpoint, which is converted on the way.
    TYPE is Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q5_1, Q5_0, Q4_1, Q4_0, IQ4_NL, NVFP4,
    MXFP4, F16, BF16 or F32. Some matrices get finer formats by their role, as llama.cpp does it,
    and a prediction head stays at Q8_0 or better. Norms and other vectors stay as they are.
    """
    from nextn.cli.loading import find_model
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.quantise import Settings, quantise_file

    settings = Settings(
        file_type, tensor_types=[_override(text) for text in tensor_types], **formats
    )
    folder = Path(model)
    path = folder if folder.is_dir() else find_model(model, offline=offline, quiet=quiet).path
    with ProgressDisplay(quiet=quiet, speed=True) as progress:
        result = quantise_file(
            path,
            None if dry_run else output,
            settings,
            imatrix=imatrix,
            threads=threads,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(_record(result), indent=2))
        return
    if dry_run:
        click.echo(table(list(_rows(result))))
    if not quiet:
        for note in result.notes:
            click.echo(one_line(f"note: {note}"), err=True)
        click.echo(_sizes(result), err=True)
    if not dry_run:
        click.echo(str(output))


def _override(text: str) -> tuple[str, str]:
    pattern, separator, block_type = text.rpartition("=")
    if not separator or not pattern:
        raise click.BadParameter(f"{text!r} is not PATTERN=FORMAT", param_hint="--tensor-type")
    return pattern, block_type


def _rows(result: QuantiseResult) -> Iterator[tuple[str, ...]]:
    yield ("TENSOR", "SHAPE", "NOW", "THEN", "SIZE", "WHY")
    for plan in result.plans:
        yield (
            one_line(plan.name),
            " x ".join(map(str, plan.shape)),
            plan.source.name,
            plan.target.name if plan.changes else "same",
            bytes_text(plan.target_bytes),
            plan.reason,
        )


def _sizes(result: QuantiseResult) -> str:
    return (
        f"{bytes_text(result.source_bytes)} to {bytes_text(result.target_bytes)}, "
        f"{result.bits_per_weight:.2f} bits per weight"
    )


def _record(result: QuantiseResult) -> dict[str, Any]:
    return {
        "path": None if result.path is None else str(result.path),
        "source_bytes": result.source_bytes,
        "target_bytes": result.target_bytes,
        "bits_per_weight": result.bits_per_weight,
        "notes": list(result.notes),
        "tensors": [
            {
                "name": plan.name,
                "shape": plan.shape,
                "from": plan.source.name,
                "to": plan.target.name,
                "bytes": plan.target_bytes,
                "reason": plan.reason,
                "head": plan.head,
            }
            for plan in result.plans
        ],
    }
