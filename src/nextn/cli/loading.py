"""Loads the model that a verb was asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nextn.cli.head_text import head_text
from nextn.cli.options import wanted_head
from nextn.cli.output import say
from nextn.cli.progress import ProgressDisplay
from nextn.cli.text import bytes_text, one_line, seconds_text
from nextn.errors import SourceError

if TYPE_CHECKING:
    from nextn.files.sources import ModelSource
    from nextn.model import Model


def find_model(name: str, *, offline: bool, quiet: bool = False) -> ModelSource:
    """The model's file, downloaded if need be.

    Raises:
        SourceError: there is no such model, or it cannot be fetched.
    """
    from nextn.files.sources import resolve

    with ProgressDisplay(quiet=quiet) as progress:
        try:
            return resolve(name, progress=progress, offline=offline)
        except SourceError as error:
            if len(name.split()) > 1:
                # Whoever writes `nextn run "A prompt"` means a prompt.
                raise SourceError(
                    f"{error}; the model comes before the prompt: nextn run MODEL PROMPT"
                ) from error
            raise


def load_model(name: str, options: dict[str, Any]) -> Model:
    """Find and load a model for one text at a time, as the options say.

    Raises:
        NextnError: as `nextn.load`.
    """
    from nextn.model import load

    quiet = bool(options["quiet"])
    source = find_model(name, offline=options["offline"], quiet=quiet)
    started = time.perf_counter()
    model = load(
        source,
        threads=options["threads"],
        context=options["context"],
        backend=options["backend"],
        cache_type=options["cache_type"],
        max_sequences=1,
        head=wanted_head(options),
        offline=True,
    )
    if not quiet:
        for line in head_lines(model):
            say(one_line(line))
    if options["verbose"]:
        taken = seconds_text(time.perf_counter() - started)
        say(
            one_line(
                f"{source.name}: {model.checkpoint.architecture}, "
                f"{bytes_text(model.checkpoint.file_bytes)}, {source.path}"
            )
        )
        say(
            f"loaded in {taken}; context of {model.context_length} tokens, "
            f"{model.executor.threads} threads, backend {model.executor.backend}"
        )
    return model


def head_lines(model: Model) -> list[str]:
    """What to say at the start about the head of a model, and about those that do not fit."""
    lines = [f"head not used: {reason}" for reason in model.rejected_heads]
    if model.head is not None:
        lines.append(
            f"prediction head {head_text(model.head)}; --mtp off writes the same text without it"
        )
    return lines
