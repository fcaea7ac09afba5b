from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nextn
from nextn.bench.mtp import DifferentTextError, Measurements, Report, Settings, Text, measure
from nextn.bench.mtp.plot import plot_report
from nextn.bench.report import ModelLine
from nextn.engine import Statistics
from nextn.engine.request import DraftSetting
from nextn.errors import RequestError
from nextn.speculate import Draft
from tests.support.tiny_gguf import TinyHead, write_tiny_model

MODEL = ModelLine("tiny", "llama", "Q4_0", 1_000_000, 915_000, "cpu", "avx2", 2)
SETTINGS = Settings(categories=("chat", "qa"), prompts=2, tokens=16, depths=(3, 1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nextn.Model]:
    path = tmp_path_factory.mktemp("mtp") / "tiny.gguf"
    write_tiny_model(path, "llama")
    with nextn.load(path, threads=1, max_sequences=1) as model:
        yield model


def test_every_prompt_is_written_with_every_setting_in_turn(model: nextn.Model) -> None:
    seen: list[tuple[int, int]] = []
    texts = measure(model, SETTINGS, lambda done, total: seen.append((done, total))).texts

    assert [text.key for text in texts[::4]] == [("chat", 0), ("chat", 1), ("qa", 0), ("qa", 1)]
    assert [text.draft for text in texts] == [
        *("off", 1, 3, "auto"),
        *(1, 3, "auto", "off"),
        *(3, "auto", "off", 1),
        *("auto", "off", 1, 3),
    ]
    assert seen == [(n, 16) for n in range(1, 17)]
    # Nobody finds the prompt of another setting in the cache.
    assert {text.statistics.cached_tokens for text in texts} == {0}
    for n in range(0, 16, 4):
        assert len({text.statistics.tokens for text in texts[n : n + 4]}) == 1
    assert all(text.statistics.drafted == 0 for text in texts if text.draft == "off")


def test_sampled_texts_are_the_same_too(model: nextn.Model) -> None:
    settings = Settings(categories=("chat",), prompts=2, tokens=12, depths=(2,), temperature=1.0)

    assert len(measure(model, settings).texts) == 6


def test_a_model_without_a_template_continues_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    write_tiny_model(path, "gemma3")
    settings = Settings(categories=("chat",), prompts=1, tokens=4, depths=())

    with nextn.load(path, threads=1, max_sequences=1) as base:
        texts = measure(base, settings).texts
        prompt = base.tokenizer.encode(settings.load_prompts()[0][0].messages[0]["content"])

    assert [text.draft for text in texts] == ["off", "auto"]
    assert texts[0].statistics.prompt_tokens == len(prompt)


def test_a_head_is_asked_at_every_position_of_greedy_texts(tmp_path: Path) -> None:
    path = tmp_path / "headed.gguf"
    write_tiny_model(path, "llama", layers=1, head=TinyHead(noise=0.0))
    with nextn.load(path, threads=1, max_sequences=1) as headed:
        greedy = measure(headed, SETTINGS)
        sampled = measure(headed, replace(SETTINGS, prompts=1, temperature=1.0))
    report = Report(MODEL, SETTINGS, greedy)

    written = {"chat": 0, "qa": 0}
    for text in greedy.texts:
        written[text.category] += text.statistics.tokens if text.draft == "off" else 0
    assert {category: one.steps for category, one in greedy.forced.items()} == written
    assert sampled.forced == {}
    assert report.forced["all"].steps == sum(written.values())
    # This head is a copy of the trunk.
    assert report.as_record()["forced"]["all"]["acceptance_at"] == [1.0] * 4
    lines = report.as_text().splitlines()
    assert lines[-4].split("  ")[0] == "HEAD AT EVERY POSITION"
    assert lines[-1].split() == ["all", str(sum(written.values())), *["100"] * 4]
    assert report.as_markdown().splitlines()[-1].endswith("| 100 100 100 100 |")


def test_different_texts_are_an_error(model: nextn.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    stream_chat = model.stream_chat

    def broken(messages: Any, *, draft: DraftSetting, **settings: Any) -> Any:
        if draft == 3:
            settings["logit_bias"] = {0: 1000.0}
        return stream_chat(messages, draft=draft, **settings)

    monkeypatch.setattr(model, "stream_chat", broken)
    with pytest.raises(DifferentTextError, match=r"prompt 0 of 'chat' with draft=3 .* number 0"):
        measure(model, SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 1}, "-n: 1 is not possible; allowed: 2 or more"),
        ({"prompts": 0}, "--prompts: 0 is not possible; allowed: 1 or more"),
        ({"prompts": 25}, "--prompts: 25 is not possible; there are 24 for 'code'"),
        ({"depths": (1, 17)}, "--draft-depths: 17 is not possible; allowed: 1 to 16"),
        ({"categories": ()}, "--categories: none given"),
        ({"categories": ("poems",)}, "there is no prompt category 'poems'"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Settings(**changes).check()


def text(
    category: str,
    prompt: int,
    draft: DraftSetting,
    seconds: float,
    tokens: int,
    *drafts: tuple[Draft, int],
) -> Text:
    """A text whose first token took one second; one step for each draft, then plain ones."""
    statistics = Statistics(
        tokens=tokens,
        seconds=1.0 + seconds,
        time_to_first_token=1.0,
        draft_seconds=0.1 * seconds,
        execute_seconds=0.8 * seconds,
    )
    statistics.record(None, 0)
    for one, accepted in drafts:
        statistics.record(one, accepted)
    while statistics.steps + statistics.accepted < tokens:
        statistics.record(None, 0)
    return Text(category, prompt, draft, statistics)


def report(*categories: str) -> Report:
    """Three prompts in each category, of 9, 9 and 1 tokens."""
    both = (Draft([1, 2], [0.5] * 2, "head"), 1), (Draft([1, 2], [0.5] * 2, "head"), 2)
    other = (Draft([1, 2], [0.5] * 2, "suffix"), 0)
    texts = []
    for category in categories:
        texts += [
            text(category, 0, "off", 4.0, 9),
            text(category, 0, 2, 2.0, 9, *both),
            text(category, 0, "auto", 1.0, 9, *both, other),
            text(category, 1, "off", 2.0, 9),
            text(category, 1, 2, 2.0, 9, other),
            text(category, 1, "auto", 2.0, 9),
            *(text(category, 2, draft, 0.0, 1) for draft in ("off", 2, "auto")),
        ]
    return Report(MODEL, Settings(categories=categories, depths=(2,)), Measurements(texts))


def test_a_summary_holds_rates_and_acceptance_by_position() -> None:
    plain, fixed, auto = report("qa").summaries["qa"]

    assert (plain.rate, plain.median_rate, plain.speed_up, plain.median_speed_up) == (
        *(16 / 6, 3.0),
        *(1.0, 1.0),
    )
    assert (fixed.rate, fixed.median_rate) == (4.0, 4.0)
    assert (fixed.speed_up, fixed.median_speed_up) == (1.5, 1.5)
    assert auto.speed_up == 2.0
    assert (plain.tokens_per_step, fixed.tokens_per_step) == (1.0, 16 / 13)
    assert fixed.times == pytest.approx((0.4, 3.2, 0.4))
    assert fixed.as_record()["acceptance_at"] == {"head": [1.0, 0.5], "suffix": [0.0, 0.0]}


def test_the_tables_show_each_task_and_all_of_them() -> None:
    lines = report("chat", "qa").as_text().splitlines()

    assert lines[0].startswith("tiny: cpu (avx2), 2 threads; 6 prompts, 38 tokens, greedy; ")
    assert [line.split()[0] for line in lines if "TOKENS/S" in line] == ["CHAT", "QA", "ALL"]
    row = next(line for line in lines if line.startswith("2 "))
    assert row.split() == [
        *("2", "4.0", "4.0", "1.50", "1.50", "1.23"),
        *("30.77", "246.15", "30.77"),
        *("head", "100", "50,", "suffix", "0", "0"),
    ]


def test_markdown_has_one_table_for_a_single_task() -> None:
    tables = report("qa").as_markdown().split("\n\n")[1:]

    assert len(tables) == 1
    assert tables[0].startswith("| qa | tokens/s | median | speed-up | median | tokens/step |")
    assert "| auto | 5.3 |" in tables[0]


def test_the_record_holds_every_text() -> None:
    record = report("chat", "qa").as_record()

    assert [(one["category"], one["draft"]) for one in record["results"]][::3] == [
        ("chat", "off"),
        ("qa", "off"),
        ("all", "off"),
    ]
    assert len(record["texts"]) == 18
    assert record["texts"][1]["by_drafter"]["head"]["accepted_at"] == [2, 1]
    assert record["results"][-1]["by_drafter"]["head"]["judged_at"] == [4, 4]


@pytest.mark.parametrize(
    ("categories", "suffix"), [(("chat", "qa"), "svg"), (("qa",), "png"), (("qa",), "svg")]
)
def test_the_picture_is_drawn(tmp_path: Path, categories: tuple[str, ...], suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"tasks.{suffix}"

    plot_report(report(*categories), path)

    assert path.read_bytes().startswith({"svg": b"<?xml", "png": b"\x89PNG"}[suffix])
