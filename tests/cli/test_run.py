from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

import nextn
from nextn.cli.statistics import statistics_line
from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

MESSAGE = "the rain in and on"


def chat_text(path: Path, *contents: str, **settings: Any) -> str:
    """What the Python API answers."""
    roles = ["system", "user"] if len(contents) > 1 else ["user"]
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
    with nextn.load(path, max_sequences=1) as model:
        return model.chat(messages, **settings).text


def line_of(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def test_the_prompt_is_a_message_and_the_text_that_of_the_python_api(
    cli: RunCli, tiny: Path
) -> None:
    result = cli("run", tiny, *MESSAGE.split(), "-n", 20, "--seed", 3, "--ignore-eos")
    expected = chat_text(tiny, MESSAGE, max_tokens=20, seed=3, ignore_end=True)
    assert result.exit_code == 0
    assert result.stdout == line_of(expected)


def test_a_model_without_a_template_continues_the_prompt(cli: RunCli, tiny_base: Path) -> None:
    result = cli("run", tiny_base, MESSAGE, "-n", 20, "-s", 3)
    with nextn.load(tiny_base, max_sequences=1) as model:
        expected = model.generate(MESSAGE, max_tokens=20, seed=3).text
    assert result.stdout == line_of(expected)


def test_raw_leaves_the_template_out_and_reads_control_tokens(cli: RunCli, tiny: Path) -> None:
    prompt = "<|im_start|>the"
    result = cli("run", tiny, prompt, "--raw", "--json", "-n", 2, "--temp", 0)
    with nextn.load(tiny, max_sequences=1) as model:
        tokens = model.tokenizer.encode(prompt, parse_special=True)
        expected = model.generate(tokens, max_tokens=2, temperature=0.0).tokens
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["id"] for record in records[:-1]] == expected
    assert tokens[0] == 1
    assert records[-1]["prompt_tokens"] == len(tokens)


def test_a_system_message_comes_first(cli: RunCli, tiny: Path) -> None:
    result = cli("run", tiny, MESSAGE, "-sys", "be brief", "-n", 9, "-s", 1, "--ignore-eos")
    expected = chat_text(tiny, "be brief", MESSAGE, max_tokens=9, seed=1, ignore_end=True)
    assert result.stdout == line_of(expected)


def test_the_prompt_comes_from_wherever_it_is_given(
    cli: RunCli, tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(MESSAGE + "\n")
    options = ["-n", 9, "-s", 1, "--ignore-eos"]
    expected = cli("run", tiny, MESSAGE, *options).stdout
    assert cli("run", tiny, *options, input=MESSAGE + "\n").stdout == expected
    assert cli("run", tiny, "-p", MESSAGE, *options).stdout == expected
    assert cli("run", tiny, "-f", file, *options).stdout == expected
    assert cli("run", "-m", tiny, MESSAGE, *options).stdout == expected


def test_what_is_piped_in_follows_the_prompt(cli: RunCli, tiny: Path) -> None:
    options = ["-n", 9, "-s", 1, "--ignore-eos"]
    expected = cli("run", tiny, "one\n\ntwo", *options).stdout
    assert cli("run", tiny, "one", *options, input="two\n").stdout == expected


def test_one_line_of_statistics_ends_the_text(cli: RunCli, tiny: Path) -> None:
    result = cli("run", tiny, MESSAGE, "-n", 30, "--ignore-eos", "--draft", 2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("30 tokens, ")
    for part in ("tokens/s", "first token after", "tokens per step", "draft"):
        assert part in line
    assert cli("run", tiny, MESSAGE, "-n", 3, "--quiet").stderr == ""


def test_verbose_says_more(cli: RunCli, tiny: Path) -> None:
    said = cli("run", tiny, MESSAGE, "-n", 3, "--verbose", "-s", 11).stderr
    for part in ("llama", str(tiny), "context of 512", "threads", "cpu", "seed 11"):
        assert part in said


def test_json_lines_hold_every_token_and_the_statistics(cli: RunCli, tiny: Path) -> None:
    arguments = ["-n", 40, "-s", 5, "--ignore-eos", "--json", "--logprobs", 2, "--draft", 3]
    result = cli("run", tiny, MESSAGE, *arguments)
    assert result.stderr == ""
    *tokens, statistics = map(json.loads, result.stdout.splitlines())
    with nextn.load(tiny, max_sequences=1) as model:
        expected = model.chat(
            [{"role": "user", "content": MESSAGE}],
            max_tokens=40,
            seed=5,
            ignore_end=True,
            logprobs=2,
            draft=3,
        )
    assert [token["id"] for token in tokens] == expected.tokens
    assert [token["logprob"] for token in tokens] == expected.logprobs
    assert [token["drafter"] for token in tokens] == [e.drafter for e in expected.events]
    assert "".join(token["text"] for token in tokens) == expected.text
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    assert statistics["type"] == "statistics"
    assert statistics["finish_reason"] == "length"
    assert statistics["seed"] == 5
    for name in ("tokens", "steps", "drafted", "accepted", "prompt_tokens"):
        assert statistics[name] == getattr(expected.statistics, name)


def test_drafted_tokens_can_be_coloured(
    cli: RunCli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", tiny, MESSAGE, "-n", 60, "--temp", 0, "--ignore-eos", "--draft", 4]
    records = [json.loads(line) for line in cli(*arguments, "--json").stdout.splitlines()]
    expected = "".join(
        f"\x1b[32m{record['text']}\x1b[0m" if record["drafter"] else record["text"]
        for record in records[:-1]
        if record["text"]
    )
    assert "\x1b[32m" in expected
    # A pipe gets the text alone.
    assert cli(*arguments, "--show-drafts").stdout == line_of(click.unstyle(expected))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli(*arguments, "--show-drafts").stdout.rstrip("\n") == expected


def test_the_line_of_an_unfinished_text_leaves_out_what_is_not_known() -> None:
    from nextn.engine import Statistics

    assert statistics_line(Statistics(prompt_tokens=4), "interrupted") == "0 tokens, interrupted"
    one = Statistics(tokens=1, steps=1, time_to_first_token=0.25, seconds=0.25)
    assert statistics_line(one, "stop") == (
        "1 token, first token after 250 ms, 1.00 tokens per step, no drafts"
    )
    many = Statistics(
        tokens=31, steps=10, time_to_first_token=1.5, seconds=4.5, drafted=28, accepted=21
    )
    assert statistics_line(many, "length") == (
        "31 tokens, 10.0 tokens/s, first token after 1.50 s, 3.10 tokens per step, "
        "75% of 28 drafted tokens accepted, ended at the limit (-n)"
    )


@pytest.mark.models
def test_the_default_model_answers(smollm2_path: Path, cli: RunCli) -> None:
    result = cli("run", smollm2_path, "What is 2+2? Answer briefly.", "--temp", 0, "-n", 20)
    assert result.exit_code == 0
    assert "4" in result.stdout


def test_the_head_that_was_found_is_named_at_the_start(cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "both.gguf"
    write_tiny_model(path, "llama", head=TinyHead())
    line = "prediction head inside the model's file (1 block, "
    said = cli("run", path, MESSAGE, "-n", 3).stderr.splitlines()[0]
    assert said.startswith(line)
    assert said.endswith("F32, drafts 320 tokens); --mtp off writes the same text without it")
    for silent in (["--quiet"], ["--mtp", "off"], ["--head", "none"]):
        assert line not in cli("run", path, MESSAGE, "-n", 3, *silent).stderr


def test_a_head_that_does_not_fit_is_said_to_be_left_out(cli: RunCli, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead(), layers=3)
    result = cli("run", tmp_path / "tiny.gguf", MESSAGE, "-n", 3)
    assert result.exit_code == 0
    assert "head not used: " in result.stderr
    assert "mtp-tiny.gguf: llama.block_count: a head for a trunk of 3 blocks" in result.stderr
