from __future__ import annotations

import time
from collections.abc import Sequence

from nextn.engine import Engine, GenerationRequest, Statistics
from nextn.sampling import SamplingParams
from nextn.speculate import Draft, SuffixDrafter, Want
from tests.support.fake_executor import FakeExecutor, FakeTokenizer


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


class SlowDrafter(SuffixDrafter):
    """Needs two milliseconds."""

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        time.sleep(0.002)
        return super().propose(wants)


def test_the_time_after_the_first_token_is_split() -> None:
    executor = FakeExecutor()
    executor.on_step = lambda: time.sleep(0.001)
    engine = Engine(executor, FakeTokenizer(), drafters=[SlowDrafter()])  # type: ignore[arg-type]
    request = GenerationRequest(
        prompt=[1, 2, 3], sampling=SamplingParams(temperature=0.0), max_tokens=12, draft=2
    )
    sequence = engine.submit(request)
    while engine.running or engine.waiting:
        engine.step()

    statistics = sequence.statistics
    later = statistics.steps - 1
    assert later > 2
    # The last step has room for a single token, so nobody is asked for a draft.
    assert statistics.draft_seconds >= 0.002 * (later - 1)
    assert statistics.execute_seconds >= 0.001 * later
    assert 0.0 < statistics.rest_seconds < statistics.writing_seconds
    assert statistics.writing_seconds == statistics.seconds - statistics.time_to_first_token
