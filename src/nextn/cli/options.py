"""The options that verbs share, under the names that people know from llama.cpp and Ollama."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from nextn.cli.command import option, together
from nextn.cli.form_options import FORM_NAMES

_MODEL = "Model"
_WRITING = "Writing"
_SAMPLING = "Sampling"
_OUTPUT = "Output"

_LOGIT_BIAS = re.compile(r"(?P<token>\d+)(?P<bias>[+-].+)")


def draft_setting(_context: click.Context, _parameter: click.Parameter, value: str) -> str | int:
    """`auto`, `off` or a number; 0 is `off`, as elsewhere."""
    if value in ("auto", "off"):
        return value
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is not auto, off or a number of tokens")
    return int(value) or "off"


def _logit_bias(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[int, float]:
    """Token ids and what is added to their logits, as `29905-1.5` or `29905-inf`."""
    biases = {}
    for value in values:
        match = _LOGIT_BIAS.fullmatch(value)
        try:
            biases[int(match["token"])] = float(match["bias"])  # type: ignore[index]
        except (TypeError, ValueError) as error:
            raise click.BadParameter(
                f"{value!r} is not of the form ID(+|-)BIAS, such as 29905-1.5"
            ) from error
    return biases


def _json_object(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.BadParameter(f'{value!r} is not an object such as {{"name": true}}')
    return found


def _minus_one_is_none(
    _context: click.Context, _parameter: click.Parameter, value: int | None
) -> int | None:
    """What -1 means in llama.cpp: no limit, or any seed."""
    return None if value == -1 else value


model_option = option(_MODEL, "-m", "--model", help="The model, instead of the first argument.")
offline_option = option(_MODEL, "--offline", is_flag=True, help="Never download anything.")
context_option = option(
    _MODEL,
    "-c",
    "--ctx-size",
    "--context",
    "context",
    type=int,
    metavar="N",
    help="Most tokens of a text, prompt included.  [default: 8192, or fewer if the model was "
    "trained for fewer]",
)

threads_option = option(
    _MODEL,
    "-t",
    "--threads",
    type=int,
    metavar="N",
    help="Threads that compute.  [default: one per physical core]",
)
backend_option = option(
    _MODEL,
    "--backend",
    type=click.Choice(["cpu", "reference"]),
    default="cpu",
    show_default=True,
    help="What computes: native code, or the slow NumPy code that defines what is right.",
)

cache_type_option = option(
    _MODEL,
    "-ct",
    "--cache-type",
    type=click.Choice(["f16", "q8_0"]),
    default="f16",
    show_default=True,
    help="How keys and values are kept; q8_0 takes half the memory, and half the time at long "
    "contexts.",
)

head_option = option(
    _MODEL,
    "--head",
    metavar="[auto|none|FILE]",
    default="auto",
    show_default=True,
    help="A file with a prediction head for the model. By default one is looked for inside the "
    "model's file, beside it as mtp-*.gguf, and among those that come with nextn.",
)

loading_options = together(
    model_option,
    head_option,
    context_option,
    threads_option,
    backend_option,
    cache_type_option,
    offline_option,
)

writing_options = together(
    option(_WRITING, "-p", "--prompt", metavar="TEXT", help="The prompt, as an option."),
    option(
        _WRITING,
        "-f",
        "--file",
        type=click.File(encoding="utf-8", errors="strict"),
        help="Read the prompt from a file.",
    ),
    option(
        _WRITING,
        "-sys",
        "--system",
        metavar="TEXT",
        help="A message that tells the model how to behave.",
    ),
    option(
        _WRITING,
        "--raw",
        is_flag=True,
        help="Continue the prompt as it is, without the chat template; control tokens such as "
        "<|im_end|> are recognised in it.",
    ),
    option(
        _WRITING,
        "--chat-template-kwargs",
        callback=_json_object,
        metavar="JSON",
        help="Further variables for the chat template, such as '{\"enable_thinking\": false}'.",
    ),
    option(
        _WRITING,
        "-n",
        "--max-tokens",
        "--n-predict",
        "--predict",
        "max_tokens",
        type=int,
        metavar="N",
        callback=_minus_one_is_none,
        help="Most tokens to write; -1 for as many as the context holds.  [default: -1]",
    ),
    option(
        _WRITING,
        "-r",
        "--stop",
        "--reverse-prompt",
        "stop",
        multiple=True,
        metavar="TEXT",
        help="End before this text; may be given several times.",
    ),
    option(_WRITING, "--ignore-eos", "ignore_end", is_flag=True, help="Write on past end tokens."),
    option(
        _WRITING,
        "--mtp",
        "--draft",
        "draft",
        callback=draft_setting,
        metavar="[auto|off|N]",
        default="auto",
        show_default=True,
        help="Tokens to draft per step, by the prediction head and by copying. Changes the speed, "
        "never the text.",
    ),
)

sampling_options = together(
    option(
        _SAMPLING,
        "--temp",
        "--temperature",
        "temperature",
        type=float,
        default=0.8,
        show_default=True,
        help="Divides the logits; 0 always takes the most probable token.",
    ),
    option(
        _SAMPLING,
        "--top-k",
        type=int,
        default=40,
        show_default=True,
        help="Keep the N most probable tokens; 0 is off.",
    ),
    option(
        _SAMPLING,
        "--top-p",
        type=float,
        default=0.95,
        show_default=True,
        help="Keep the most probable tokens up to this probability together; 1 is off.",
    ),
    option(
        _SAMPLING,
        "--min-p",
        type=float,
        default=0.05,
        show_default=True,
        help="Keep tokens at least this probable, as a share of the most probable; 0 is off.",
    ),
    option(
        _SAMPLING,
        "--typical",
        "--typical-p",
        "typical_p",
        type=float,
        default=1.0,
        show_default=True,
        help="Keep the tokens whose surprise is nearest to the mean; 1 is off.",
    ),
    option(
        _SAMPLING,
        "--repeat-penalty",
        type=float,
        default=1.0,
        show_default=True,
        help="Makes tokens of the last text less probable; 1 is off.",
    ),
    option(
        _SAMPLING,
        "--repeat-last-n",
        type=int,
        default=64,
        show_default=True,
        help="Tokens that the penalties look back at; -1 for all, 0 for none.",
    ),
    option(
        _SAMPLING,
        "--presence-penalty",
        type=float,
        default=0.0,
        show_default=True,
        help="Subtracted once from the logit of a token that occurred.",
    ),
    option(
        _SAMPLING,
        "--frequency-penalty",
        type=float,
        default=0.0,
        show_default=True,
        help="Subtracted from the logit of a token for each time it occurred.",
    ),
    option(
        _SAMPLING,
        "--logit-bias",
        callback=_logit_bias,
        metavar="ID(+|-)BIAS",
        multiple=True,
        help="Added to the logit of a token id; -inf bans it. May be given several times.",
    ),
    option(
        _SAMPLING,
        "-s",
        "--seed",
        type=int,
        metavar="N",
        callback=_minus_one_is_none,
        help="The same seed and settings give the same text; -1 draws one.  [default: -1]",
    ),
)

output_options = together(
    option(
        _OUTPUT,
        "--json",
        "as_json",
        is_flag=True,
        help="Write JSON lines: one per token, the statistics last.",
    ),
    option(
        _OUTPUT,
        "--logprobs",
        type=int,
        metavar="N",
        help="With --json, log probabilities, with those of the N most probable tokens.",
    ),
    option(
        _OUTPUT,
        "--show-drafts",
        is_flag=True,
        help="Colour the tokens that a draft foresaw, by drafter, with a legend; in brackets on a "
        "terminal without colours.",
    ),
    option(_OUTPUT, "--verbose", is_flag=True, help="Say more about the model and the run."),
    option(_OUTPUT, "-q", "--quiet", is_flag=True, help="No statistics and no progress."),
)

SAMPLING_NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "logprobs",
)
_WRITING_NAMES = ("max_tokens", "stop", "ignore_end", "draft")


def generation_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings of `Model.generate` among the values of a verb's options."""
    return {name: options[name] for name in (*_WRITING_NAMES, *FORM_NAMES, *SAMPLING_NAMES)}


def wanted_head(options: dict[str, Any]) -> str | None:
    """The value of --head as `nextn.load` takes it; None also if nothing will be drafted."""
    head: str = options["head"]
    return None if head == "none" or options["draft"] == "off" else head


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse impossible settings before a model is loaded; what depends on the model comes later.

    Raises:
        RequestError: names the setting, its value and what is allowed.
    """
    from nextn.engine.request import request_from_settings
    from nextn.grammar import GRAMMAR_SETTINGS, specification_from_settings

    form = specification_from_settings(settings)
    if form is not None:
        from nextn.grammar.compiler import check_specification

        check_specification(form)
    unlimited = 1 << 31
    others = {name: value for name, value in settings.items() if name not in GRAMMAR_SETTINGS}
    request_from_settings([0], frozenset(), others).check(unlimited, unlimited)
