"""`nextn serve`: answers other programs over HTTP."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import SAMPLING_NAMES, loading_options, sampling_options
from nextn.errors import RequestError

if TYPE_CHECKING:
    from nextn.model import Model
    from nextn.server.models import ModelSpec
    from nextn.server.state import Server

_SERVER = "Server"


@click.command(
    cls=Verb,
    name="serve",
    examples=(
        "nextn serve",
        "nextn serve smollm2 --port 9000",
    ),
)
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@option(_SERVER, "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option(
    _SERVER,
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@option(
    _SERVER,
    "-np",
    "--parallel",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    metavar="N",
    help="Texts that are written at a time; more wait.",
)
@loading_options
@sampling_options
@debug_option
def command(names: tuple[str, ...], **options: Any) -> int:
    """Answer other programs over HTTP.

    The models are named as for `nextn run`; without any it is smollm2. It speaks the API of OpenAI
    at http://HOST:PORT/v1. Sampling options are what a request gets that does not say.
    """
    from nextn.cli.loading import head_lines
    from nextn.cli.output import say
    from nextn.cli.text import one_line
    from nextn.server.models import Models
    from nextn.server.run import listen, run_server, url_of
    from nextn.server.state import Server, ServerSettings

    given = ([options["model"]] if options["model"] else []) + list(names)
    specs = _find_models(given, options)
    listener = listen(options["host"], options["port"])
    settings = ServerSettings(defaults={name: options[name] for name in _DEFAULTS})

    def create() -> Server:
        return Server(models=Models(specs), settings=settings)

    def say_ready(server: Server) -> None:
        loaded = server.models.loaded[server.models.default]
        for line in head_lines(loaded.model):
            say(one_line(line))
        say(one_line(f"{loaded.name} is ready at {url_of(listener)}"))

    run_server(create, listener, on_ready=say_ready)
    return 0


_DEFAULTS = tuple(name for name in SAMPLING_NAMES if name not in ("logprobs", "seed"))


def _find_models(names: list[str], options: dict[str, Any]) -> list[ModelSpec]:
    """The models, each downloaded if need be.

    Raises:
        SourceError: one cannot be found.
        RequestError: two have the same name.
    """
    from nextn.cli.loading import find_model
    from nextn.files.sources.registry import DEFAULT_MODEL
    from nextn.server.models import ModelSpec

    specs: dict[str, ModelSpec] = {}
    for name in names or [DEFAULT_MODEL]:
        source = find_model(name, offline=options["offline"])
        if source.name in specs:
            raise RequestError(f"two models are called {source.name}; give different ones")
        load = functools.partial(_load, source, options)
        specs[source.name] = ModelSpec(
            name=source.name, load=load, aliases=() if name == source.name else (name,)
        )
    return list(specs.values())


def _load(source: Any, options: dict[str, Any]) -> Model:
    from nextn.model import load

    return load(
        source,
        threads=options["threads"],
        context=options["context"],
        backend=options["backend"],
        cache_type=options["cache_type"],
        max_sequences=options["parallel"],
        head=None if options["head"] == "none" else options["head"],
        offline=True,
    )
