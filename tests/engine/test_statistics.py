from __future__ import annotations

from nextn.engine import Statistics


def test_nothing_is_divided_by_zero_before_the_first_token() -> None:
    empty = Statistics(prompt_tokens=3)
    assert empty.tokens_per_second == empty.tokens_per_step == empty.acceptance == 0.0
    assert empty.prompt_tokens_per_second == 0.0


def test_speeds_leave_out_what_was_cached_and_what_the_prompt_took() -> None:
    statistics = Statistics(
        prompt_tokens=100,
        cached_tokens=20,
        tokens=41,
        prompt_seconds=0.5,
        seconds=3.0,
        time_to_first_token=1.0,
        steps=20,
        drafted=30,
        accepted=21,
    )
    assert statistics.prompt_tokens_per_second == 160.0
    assert statistics.tokens_per_second == 20.0
    assert statistics.tokens_per_step == 2.05
    assert statistics.acceptance == 0.7
