from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from nextn.files import open_checkpoint
from nextn.models.nextn_head import load_head_plan
from nextn.train.work_folder import work_folder
from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import write_tiny_model

has_torch = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not has_torch, reason="needs PyTorch")

SMALL = [
    "--tokens=300", "--answer-tokens=16", "--held-out=2", "--sequences=4", "--threads=1",
    "--longest=64", "--batch-tokens=256", "--steps=4", "--validations=2", "--draft-vocabulary=64",
]  # fmt: skip


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    records = [{"messages": [{"role": "user", "content": f"say {n}"}]} for n in range(12)]
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    return path


@needs_torch
def test_a_head_its_card_and_its_plot(
    cli: RunCli, tiny: Path, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head.gguf"
    result = cli("train", tiny, "--out", out, "--prompts", prompts, "--favour=own=2", *SMALL)
    assert result.exit_code == 0, result.output
    assert "step 0," in result.stderr
    assert "step 4," in result.stderr
    with open_checkpoint(tiny) as trunk, open_checkpoint(out) as file:
        assert len(load_head_plan(trunk, file).head.token_ids or ()) == 64
    card = (tmp_path / "head.md").read_text("utf-8")
    assert "| own | " in card
    assert "| favoured | own: 2 x |" in card
    assert "| answer tokens" not in card
    has_plot = importlib.util.find_spec("matplotlib") is not None
    assert (tmp_path / "head.svg").exists() is has_plot
    assert ("head.svg" in card) is has_plot
    assert (tmp_path / "head.gguf.work/checkpoint.pt").exists()


@needs_torch
def test_the_same_command_goes_on(cli: RunCli, tiny: Path, prompts: Path, tmp_path: Path) -> None:
    command = ("train", tiny, "--out", tmp_path / "head.gguf", "--prompts", prompts, *SMALL)
    first = cli(*command)
    second = cli(*command, "--overwrite")
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    assert "going on after step 4" in second.stderr


def test_data_alone_needs_no_torch(
    cli: RunCli, tiny: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextn.backends.torch.find_spec", lambda _name: None)
    out = tmp_path / "head.gguf"
    result = cli("train", tiny, "--out", out, "--prompts", prompts, *SMALL, "--data-only")
    assert result.exit_code == 0, result.output
    assert "tokens in" in result.stderr
    assert not out.exists()


def test_one_process_at_a_time_works_in_a_folder(
    cli: RunCli, tiny: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["--out", tmp_path / "head.gguf", "--prompts", prompts, *SMALL, "--data-only"]
    with work_folder(tmp_path / "head.gguf.work"):
        assert "another process writes or trains in this folder" in fails(cli, tiny, *command)
    assert cli("train", tiny, *command).exit_code == 0


@needs_torch
def test_texts_of_another_training_are_trained_on_too(
    cli: RunCli, tiny: Path, prompts: Path, tmp_path: Path
) -> None:
    def written(name: str, *more: object) -> int:
        result = cli("train", tiny, "--prompts", prompts, *SMALL, "--out", tmp_path / name, *more)
        assert result.exit_code == 0, result.output
        card = (tmp_path / name).with_suffix(".md").read_text("utf-8")
        (tokens,) = re.findall(r"texts \| \d+, (\d+) written", card)
        return int(tokens)

    first, second = written("a.gguf"), written("b.gguf", "--seed=1")
    work = tmp_path / "a.gguf.work"
    assert written("b.gguf", "--seed=1", "--overwrite", "--also", work) == first + second
    again = tiny, "--out", tmp_path / "a.gguf", "--overwrite", "--also", work
    assert "--also: the texts of --work are trained on anyway" in fails(cli, *again)


def fails(cli: RunCli, *arguments: object) -> str:
    result = cli("train", *arguments)
    assert result.exit_code == 2
    return result.output


def test_without_torch_it_says_what_to_install(
    cli: RunCli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextn.backends.torch.find_spec", lambda _name: None)
    output = fails(cli, tiny, "--out", tmp_path / "head.gguf")
    assert "needs PyTorch; install it with pip install 'nextn[train]'" in output


@needs_torch
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--hours", "1", "--steps", "1"], "give one budget: --steps or --hours"),
        (["--steps", "0"], "--steps is 0; allowed: at least 1"),
        (["--depth", "9"], "--depth is 9; allowed: 1 to 8"),
        (["--free", "1.5"], "--free is 1.5; allowed: 0 to 1"),
        (["--tokens", "0"], "--tokens is 0; allowed: at least 1"),
        (["--batch-tokens", "100"], "--batch-tokens is 100, but must be at least --longest"),
        (["--favour", "code"], "'code' is no CATEGORY=N with N from 1 to 100"),
        (["--favour", "code=0"], "'code=0' is no CATEGORY=N with N from 1 to 100"),
        (["--favour", "cod=2"], "no prompt of category 'cod'; use chat, code"),
        (["--learning-rate", "nan"], "--learning-rate is nan; allowed"),
    ],
)
def test_impossible_settings(
    cli: RunCli, tiny: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    assert reason in fails(cli, tiny, "--out", tmp_path / "head.gguf", *arguments)


@needs_torch
def test_paths_are_checked_first(cli: RunCli, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "head.gguf").write_bytes(b"precious")
    assert "exists; give --overwrite" in fails(cli, tiny, "--out", tmp_path / "head.gguf")
    assert "there is no folder" in fails(cli, tiny, "--out", tmp_path / "nowhere/head.gguf")
    assert "give one model" in fails(cli, "--out", tmp_path / "other.gguf")


@needs_torch
def test_a_head_for_another_model_is_no_beginning(
    cli: RunCli, tiny: Path, prompts: Path, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "deep.gguf", "llama", layers=3)
    head = tmp_path / "head.gguf"
    command = ["--prompts", prompts, *SMALL]
    assert cli("train", tmp_path / "deep.gguf", "--out", head, *command).exit_code == 0
    output = fails(cli, tiny, "--out", tmp_path / "other.gguf", "--init", head, *command)
    assert "a head for a trunk of 3 blocks" in output
