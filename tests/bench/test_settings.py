from __future__ import annotations

import pytest

from nextn.bench import Case, Settings
from nextn.errors import RequestError


def test_cases_have_the_names_of_llama_bench() -> None:
    assert Case("prompt", 512, 0).name == "pp512"
    assert Case("decode", 128, 4096).name == "tg128 @ d4096"
    assert Case("decode", 128, 0, sequences=4).name == "tg128 b4"
    assert Case("rows", 3, 256).name == "rows3 @ d256"


def test_every_depth_has_all_cases_but_only_the_least_one_has_batches() -> None:
    settings = Settings(prompt=8, generate=4, depths=(32, 0), batches=(1, 2), rows=2)
    assert [case.name for case in settings.cases(64)] == [
        "pp8",
        "tg4",
        "tg4 b2",
        "rows1",
        "rows2",
        "pp8 @ d32",
        "tg4 @ d32",
        "rows1 @ d32",
        "rows2 @ d32",
    ]


def test_what_is_0_is_not_measured() -> None:
    names = [case.name for case in Settings(prompt=0, generate=0, depths=(0,), rows=2).cases(64)]
    assert names == ["rows1", "rows2"]
    names = [case.name for case in Settings(prompt=0, generate=3, depths=(0,), rows=0).cases(64)]
    assert names == ["tg3", "tg3 b2", "tg3 b4", "tg3 b8"]


def test_the_default_depths_are_those_that_fit() -> None:
    assert {case.depth for case in Settings().cases(8192)} == {0, 4096}
    assert {case.depth for case in Settings().cases(4096 + 512)} == {0, 4096}
    assert {case.depth for case in Settings().cases(4096 + 511)} == {0}


def test_a_case_beyond_the_context_names_both_numbers() -> None:
    with pytest.raises(RequestError, match=r"pp512 @ d4096 needs .* 4,608 .* trained for 2,048"):
        Settings(depths=(4096,)).cases(2048)
    with pytest.raises(RequestError, match=r"pp512 needs .* 512 .* trained for 256"):
        Settings().cases(256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(prompt=-1), "-p: -1"),
        (Settings(generate=-2), "-n: -2"),
        (Settings(rows=65), "--rows: 65 is not possible; allowed: 0 to 64"),
        (Settings(repetitions=0), "-r: 0"),
        (Settings(depths=()), "-d: no depth"),
        (Settings(depths=(-5,)), "-d: -5"),
        (Settings(batches=(0,)), "-b: 0"),
        (Settings(prompt=0, generate=0, rows=0), "nothing to measure"),
    ],
)
def test_impossible_settings_are_refused(settings: Settings, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        settings.check()
    assert message in str(caught.value)
