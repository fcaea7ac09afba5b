from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
import pytest

from nextn.backends import BACKENDS, CACHE_TYPES
from nextn.cli.options import SAMPLING_NAMES, generation_settings
from nextn.cli.run import command
from nextn.sampling import SamplingParams


def parse(*arguments: str) -> dict[str, Any]:
    context = command.make_context("run", list(arguments))
    return generation_settings(dict(context.params))


def test_the_defaults_are_those_of_the_python_api() -> None:
    settings = parse()
    expected = SamplingParams()
    assert {name: settings[name] for name in SAMPLING_NAMES} == {
        item.name: getattr(expected, item.name) for item in fields(SamplingParams)
    }
    assert settings["max_tokens"] is None
    assert settings["draft"] == "auto"


def test_the_cache_types_are_those_that_exist() -> None:
    (option,) = (item for item in command.params if item.name == "cache_type")
    assert tuple(option.type.choices) == CACHE_TYPES  # type: ignore[attr-defined]


def test_the_backends_are_those_that_exist() -> None:
    (option,) = (item for item in command.params if item.name == "backend")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == BACKENDS


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["-n", "5"], "max_tokens", 5),
        (["--n-predict", "5"], "max_tokens", 5),
        (["--predict", "5"], "max_tokens", 5),
        (["--max-tokens", "5"], "max_tokens", 5),
        (["-n", "-1"], "max_tokens", None),
        (["--temp", "0"], "temperature", 0.0),
        (["--temperature", "0.5"], "temperature", 0.5),
        (["--typical", "0.5"], "typical_p", 0.5),
        (["-s", "7"], "seed", 7),
        (["--seed", "-1"], "seed", None),
        (["-r", "a", "--stop", "b", "--reverse-prompt", "c"], "stop", ("a", "b", "c")),
        (["--draft", "off"], "draft", "off"),
        (["--draft", "0"], "draft", "off"),
        (["--draft", "4"], "draft", 4),
        (["--ignore-eos"], "ignore_end", True),
        (
            ["--logit-bias", "5+1.5", "--logit-bias", "7-inf", "--logit-bias", "8-2e-1"],
            "logit_bias",
            {5: 1.5, 7: float("-inf"), 8: -0.2},
        ),
    ],
)
def test_options_have_the_names_and_meanings_of_llama_cpp(
    arguments: list[str], name: str, value: object
) -> None:
    assert parse(*arguments)[name] == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["--draft", "many"],
        ["--draft", "-1"],
        ["--logit-bias", "5"],
        ["--logit-bias", "5+x"],
        ["--logit-bias", "x+5"],
        ["--chat-template-kwargs", "{"],
        ["--chat-template-kwargs", "[1]"],
    ],
)
def test_values_of_another_form_are_refused(arguments: list[str]) -> None:
    with pytest.raises(click.BadParameter):
        parse(*arguments)
