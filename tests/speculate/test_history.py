from __future__ import annotations

import pytest

from nextn.speculate import Committed, Draft
from nextn.speculate.history import History


def copied(chances: list[float], right: int) -> Committed:
    """A step whose suffix draft had so many right tokens."""
    return _step(Draft([7] * len(chances), chances, "suffix"), right)


def foreseen(chances: list[float], right: int) -> Committed:
    """A step whose chain of the head had so many right tokens."""
    return _step(Draft([7] * len(chances), chances, "head", len(chances)), right)


def _step(draft: Draft, right: int) -> Committed:
    written = [7] * right + [1]
    return Committed(1, [0, *written[:-1]], written[-1], draft, right, [draft])


def test_first_tokens_and_later_ones_are_calibrated_apart() -> None:
    history = History()
    for step in range(300):
        # First tokens come true more often than they promise, second ones less.
        part = foreseen([0.5, 0.8], right=[1, 1, 1, 2, 0][step % 5])
        history.judge(1, part.drafts, part.drafted, part.written)
    assert history.factor("head", later=False) > 1.2
    assert history.factor("head", later=True) == pytest.approx(0.25 / 0.8, abs=0.1)
    assert history.factor("suffix", later=False) == 1.0


def test_what_is_not_tried_any_more_is_trusted_again_little_by_little() -> None:
    history = History()
    for _ in range(100):
        part = foreseen([0.9, 0.9], right=1)
        history.judge(1, part.drafts, part.drafted, part.written)
    assert history.factor("head", later=True) < 0.2
    for _ in range(100):
        part = foreseen([0.9], right=1)
        history.judge(1, part.drafts, part.drafted, part.written)
    assert history.factor("head", later=True) > 0.8


def test_a_free_drafter_is_never_trusted_more_than_it_trusts_itself() -> None:
    history = History()
    for _ in range(300):
        part = copied([0.5, 0.8], right=2)
        history.judge(1, part.drafts, part.drafted, part.written)
    assert history.factor("suffix", later=False) == 1.0
    assert history.factor("suffix", later=True) == 1.0


def test_what_is_joined_to_the_guesses_of_another_drafter_is_calibrated_apart() -> None:
    history = History()
    chain, copy = Draft([7, 7], [0.9] * 2, "head"), Draft([8, 8], [0.8] * 2, "suffix")
    joined = chain.followed_by(copy)
    assert history.factor("suffix", later=False, joined=True) == 1.0
    for step in range(300):
        # Alone, what is copied is right as often as it promises; joined, half as often.
        history.judge(1, [copy], copy, [8, 1] if step % 5 else [1])
        history.judge(1, [chain], joined, [7, 7, 8] if step % 5 < 2 else [7, 7, 1])
        # Nothing is known of what follows a wrong guess, or of what had no row.
        history.judge(1, [chain], joined, [7, 1])
        history.judge(1, [chain], joined.cut(2), [7, 7, 1])
    assert history.factor("suffix", later=False) == pytest.approx(1.0, abs=0.1)
    assert history.factor("suffix", later=False, joined=True) == pytest.approx(0.5, abs=0.1)


def test_the_pace_of_copied_parts_does_not_make_time_dearer_elsewhere() -> None:
    history = History()
    sure, none = Draft([7], [0.9], "suffix"), Draft()
    for _ in range(50):
        history.see_free(1, sure)
        history.count_step([copied([0.9] * 5, right=5)], 1, 1.5)
        history.see_free(1, none)
        history.count_step([Committed(1, [0], 1)], 1, 1.0)
    assert history.pace([1]) == pytest.approx(1.0, abs=0.05)
    history.see_free(1, sure)
    assert history.pace([1]) > 3.0
    # A guess that is next to none says nothing about the text.
    history.see_free(1, Draft([7], [0.2], "suffix"))
    assert history.pace([1]) == pytest.approx(1.0, abs=0.05)
    # Another text is assumed to be like the first one.
    history.see_free(2, sure)
    assert history.pace([2]) > 3.0
    history.close(2)
    assert history.pace([2]) == pytest.approx(1.0, abs=0.05)


def test_the_pace_of_a_text_alone_does_not_make_time_dearer_for_many() -> None:
    history = History()
    for _ in range(50):
        history.count_step([copied([0.9] * 3, right=3)], 1, 2.0)
    assert history.pace([1]) == pytest.approx(2.0, abs=0.2)
    # Four texts, new ones or that one among others, are not written faster than plainly so far.
    assert history.pace([2, 3, 4, 5]) == pytest.approx(4.0)
    assert history.pace([1, 2, 3, 4]) == pytest.approx(4.0)
    for _ in range(50):
        history.count_step([Committed(n, [0], 1) for n in range(1, 5)], 4, 0.8)
    assert history.pace([1, 2, 3, 4]) == pytest.approx(5.0, abs=0.1)
    assert history.pace([1]) == pytest.approx(2.0, abs=0.2)


def test_what_was_counted_is_forgotten_when_it_holds_no_more() -> None:
    history = History()

    def write(sequence: int, right: bool) -> None:
        draft = Draft([7], [0.8], "head", passes=1)
        part = Committed(sequence, [0, 7][: 1 + right], 1, draft, int(right), [draft])
        history.judge(sequence, part.drafts, draft, part.written)
        history.chains(sequence).add(draft, 1, 1, part.written)
        history.count_step([part], 1, 1.2)

    for step in range(400):
        write(1, right=step % 5 > 0)
        write(2, right=step % 5 > 0)
    assert history.chains(1).next_right(0) == pytest.approx(0.8, abs=0.1)
    steady = history.pace([1])
    for _ in range(10):
        write(1, right=False)
    assert not history.knows([1])
    for _ in range(10):
        write(1, right=False)
    assert history.chains(1).next_right(0) < 0.4
    assert history.pace([1]) < 0.8 * steady
    # The other text goes on as it was.
    assert history.chains(2).next_right(0) == pytest.approx(0.8, abs=0.1)
    assert history.knows([2])
    # A third one is assumed to be as most were, whatever became of the first.
    assert history.chains(3).next_right(0) == pytest.approx(0.8, abs=0.1)
