"""`nextn serve`: answers other programs over HTTP."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TextIO

import click

from nextn.cli.command import Verb, debug_option
from nextn.cli.options import (
    SAMPLING_NAMES,
    check_settings,
    loading_options,
    sampling_options,
)
from nextn.cli.serve_options import access_options, server_options
from nextn.errors import RequestError

if TYPE_CHECKING:
    from nextn.files.sources import ModelSource
    from nextn.model import Model
    from nextn.server.models import ModelSpec
    from nextn.server.security import Security
    from nextn.server.state import Server


@click.command(
    cls=Verb,
    name="serve",
    examples=(
        "nextn serve",
        "nextn serve smollm2 gemma3-270m --models-max 2",
        "nextn serve model.gguf --host 0.0.0.0 --api-key-file keys.txt",
    ),
)
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@server_options
@access_options
@loading_options
@sampling_options
@debug_option
def command(names: tuple[str, ...], **options: Any) -> int:
    """Answer other programs over HTTP.

    The models are named as for `nextn run`; without any it is smollm2. The first one is loaded at
    once. Sampling options are for requests that do not say.

    It speaks the API of OpenAI at http://HOST:PORT/v1; /openapi.json lists everything. Ctrl-C, or
    SIGTERM, waits for texts that are being written; a second one ends them.
    """
    defaults = {name: options[name] for name in _DEFAULTS}
    check_settings({**defaults, "draft": options["draft"]})

    from nextn.cli.loading import head_lines
    from nextn.cli.output import say
    from nextn.cli.text import one_line
    from nextn.server.journal import logging_to_stderr
    from nextn.server.models import Models
    from nextn.server.run import listen, run_server, url_of
    from nextn.server.state import Server, ServerSettings

    security = _security(options)
    specs = _find_models(([options["model"]] if options["model"] else []) + list(names), options)
    listener = listen(options["host"], options["port"])
    settings = ServerSettings(
        defaults=defaults,
        draft=options["draft"],
        ping_seconds=options["sse_ping_interval"],
        max_waiting=options["max_queue"],
    )

    def create() -> Server:
        keep_alive = options["keep_alive"]
        models = Models(
            specs,
            most_loaded=options["models_max"],
            keep_alive=None if keep_alive < 0 else keep_alive,
            most_requests=options["parallel"] + options["max_queue"],
        )
        return Server(models=models, settings=settings, security=security)

    def say_ready(server: Server) -> None:
        if options["log_style"] == "text":
            # With a short time to keep it, the model is gone already.
            loaded = server.models.loaded.get(server.models.default)
            for line in head_lines(loaded.model) if loaded is not None else ():
                say(one_line(line))
            say(one_line(f"{server.models.default} is ready at {url_of(listener)}"))

    with logging_to_stderr(options["log_style"]):
        run_server(create, listener, on_ready=say_ready)
    return 0


_DEFAULTS = tuple(name for name in SAMPLING_NAMES if name != "logprobs")


def _security(options: dict[str, Any]) -> Security:
    """Who may ask.

    Raises:
        RequestError: see `make_security`; or a file of keys without any.
    """
    from nextn.server.security import make_security

    keys = list(options["api_keys"])
    file: TextIO | None = options["api_key_file"]
    if file is not None:
        try:
            lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{file.name}: cannot be read: {error}") from error
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise RequestError(f"{file.name}: no key in it; write one per line")
        keys += found
    return make_security(
        host=options["host"],
        keys=keys,
        hosts=options["allowed_hosts"],
        origins=options["origins"],
        insecure=options["insecure"],
    )


def _find_models(names: list[str], options: dict[str, Any]) -> list[ModelSpec]:
    """The models, each downloaded if need be.

    Raises:
        SourceError: one cannot be found.
        RequestError: two have the same name.
    """
    from nextn.cli.loading import find_model
    from nextn.files.sources.registry import DEFAULT_MODEL
    from nextn.server.models import ModelSpec

    specs: list[ModelSpec] = []
    taken: set[str] = set()
    for name in names or [DEFAULT_MODEL]:
        source = find_model(name, offline=options["offline"])
        aliases = {name} - {source.name} | (set() if specs else set(options["aliases"]))
        for each in (source.name, *aliases):
            if each in taken:
                raise RequestError(f"two models are called {each!r}; give different names")
            taken.add(each)
        load = functools.partial(_load, source, options)
        specs.append(ModelSpec(name=source.name, load=load, aliases=tuple(sorted(aliases))))
    return specs


def _load(source: ModelSource, options: dict[str, Any]) -> Model:
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
