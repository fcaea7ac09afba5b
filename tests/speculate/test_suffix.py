import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn._native import SuffixCounts, SuffixText
from nextn.sampling import Sampler, SamplingParams
from nextn.speculate import Committed, Draft, SuffixDrafter, Want

SAMPLER = Sampler(SamplingParams(), 0, 100)


def counts() -> SuffixCounts:
    return SuffixCounts([0, 0, 1], [0.2, 0.6], (10.0, 0.99), (5.0, 0.9))


def want(limit: int = 8, sequence: int = 1, prefix: list[int] | None = None) -> Want:
    return Want(sequence, limit, [], SAMPLER, prefix=prefix or [])


def after(text: list[int], prompt: int = 1, **settings: int) -> SuffixDrafter:
    """A drafter that saw `text` written token by token after `prompt` tokens."""
    drafter = SuffixDrafter(**settings)
    drafter.open(1, text[:prompt], 0)
    drafter.observe([Committed(1, text[:prompt], text[prompt] if prompt < len(text) else None)])
    for index in range(prompt, len(text) - 1):
        drafter.observe([Committed(1, [text[index]], text[index + 1])])
    return drafter


def propose(drafter: SuffixDrafter, limit: int = 8, prefix: list[int] | None = None) -> Draft:
    return drafter.propose([want(limit, prefix=prefix)])[0]


def continuations(text: list[int], limit: int, min_match: int) -> list[list[int]]:
    """What follows each earlier occurrence of the longest repeated suffix, by brute force."""
    for length in range(len(text) - 1, min_match - 1, -1):
        suffix = text[-length:]
        ends = [e for e in range(length, len(text)) if text[e - length : e] == suffix]
        if ends:
            result = []
            for end in ends:
                longer = list(text)
                while len(longer) < len(text) + limit:
                    longer.append(longer[end + len(longer) - len(text)])
                result.append(longer[len(text) :])
            return result
    return []


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda k: st.lists(st.integers(0, k), min_size=2, max_size=40)),
    st.integers(1, 10),
    st.integers(1, 3),
)
def test_a_draft_continues_an_occurrence_of_the_longest_repeated_suffix(
    text: list[int], limit: int, min_match: int
) -> None:
    draft = propose(after(text, min_match=min_match), limit)
    possible = continuations(text, limit, min_match)
    if possible:
        assert draft.tokens in possible
        assert len(draft.acceptance) == limit
        assert all(0 < chance < 1 for chance in draft.acceptance)
        assert draft.drafter == "suffix"
    else:
        assert draft.tokens == draft.acceptance == []


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda k: st.lists(st.integers(0, k), min_size=2, max_size=40)),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(1, 10),
)
def test_the_guesses_of_another_drafter_are_continued_as_if_they_were_text(
    text: list[int], prefix: list[int], limit: int
) -> None:
    drafter = after(text)
    before = propose(drafter)
    draft = propose(drafter, limit, prefix)
    longer = [*text, *prefix]
    # An occurrence that needs tokens of the prefix is not found: it ends within the text.
    within = [
        length
        for length in range(1, len(longer))
        if any(text[end - length : end] == longer[-length:] for end in range(length, len(text) + 1))
    ]
    if within and max(within) >= 2:
        possible = []
        suffix = longer[-max(within) :]
        for end in range(max(within), len(text) + 1):
            if text[end - max(within) : end] == suffix:
                follows = list(longer)
                while len(follows) < len(longer) + limit:
                    follows.append(follows[end + len(follows) - len(longer)])
                possible.append(follows[len(longer) :])
        assert draft.tokens in possible
        assert len(draft.acceptance) == limit
    else:
        assert draft.tokens == []
    assert propose(drafter) == before


def test_guesses_that_agree_with_the_copy_lengthen_the_match() -> None:
    text = [*range(20), 90, 3, 4, 5]
    draft = propose(after(text), 3, [6, 7])
    assert draft.tokens == [8, 9, 10]
    assert draft.acceptance[0] == propose(after(text), 5).acceptance[2]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=12, max_size=40), st.data())
def test_steps_prompt_chunks_and_cached_prefixes_lead_to_the_same_drafts(
    text: list[int], data: st.DataObject
) -> None:
    prompt = data.draw(st.integers(2, 10))
    cached = data.draw(st.integers(0, prompt - 1))
    split = data.draw(st.integers(cached + 1, prompt))
    drafter = SuffixDrafter()
    drafter.open(1, text[:prompt], cached)
    if split < prompt:
        drafter.observe([Committed(1, text[cached:split], None)])
    else:
        split = cached
    drafter.observe([Committed(1, text[split:prompt], text[prompt])])
    at = prompt
    while at + 1 < len(text):
        accepted = data.draw(st.integers(0, min(3, len(text) - at - 2)))
        drafter.observe(
            [Committed(1, text[at : at + accepted + 1], text[at + accepted + 1], None, accepted)]
        )
        at += accepted + 1
    assert propose(drafter) == propose(after(text, prompt))


def test_a_copy_under_way_stays_with_its_source() -> None:
    # 1 2 3 occurs three times; while the second occurrence is copied, the third is as good.
    first, second = [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]
    text = [*first, 90, *second, 91, 1, 2, 3]
    drafter = after(text)
    source = drafter._texts[1].source
    drafter.observe([Committed(1, [3], 4)])
    drafter.observe([Committed(1, [4], 5)])
    assert drafter._texts[1].source == source + 2
    assert propose(drafter).tokens[:2] == [7, 91]


def test_repetition_is_learned_to_be_safe_and_accidents_to_be_not() -> None:
    rng = random.Random(1)
    block = rng.sample(range(1000), 40)
    copied = propose(after(block * 4)).acceptance
    prose = [rng.randrange(20) for _ in range(2000)]
    accidental = propose(after([*prose, 5, 6, *prose[:50], 5, 6])).acceptance
    assert min(copied) > 0.9
    assert accidental[0] < 0.1


def test_acceptance_recovers_without_any_draft() -> None:
    rng = random.Random(2)
    prose = [rng.randrange(12) for _ in range(1000)]
    table = rng.sample(range(1000, 2000), 30)
    before = propose(after(prose)).acceptance
    assert not before or before[0] < 0.2
    assert propose(after(prose + table + table[:15])).acceptance[0] > 0.7


def test_what_one_sequence_teaches_helps_the_next() -> None:
    rng = random.Random(3)
    drafter = after([rng.randrange(12) for _ in range(1500)])

    def first_chance(drafter: SuffixDrafter) -> float:
        drafter.open(2, [1, 2, 3, 9, 1, 2, 3], 7)
        chance = drafter.propose([want(1, 2)])[0].acceptance[0]
        drafter.close(2)
        return chance

    assert first_chance(drafter) < first_chance(SuffixDrafter()) - 0.1


def test_sequences_do_not_share_their_text() -> None:
    drafter = SuffixDrafter()
    drafter.open(1, [1, 2, 3, 1, 2], 5)
    drafter.open(2, [7, 8, 9, 7, 8], 5)
    drafts = drafter.propose([want(3, 2), want(3, 1)])
    assert [draft.tokens for draft in drafts] == [[9, 7, 8], [3, 1, 2]]
    drafter.close(1)
    assert drafter.propose([want(1, 2)])[0].tokens == [9]


def test_a_matching_length_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="min_match"):
        SuffixDrafter(min_match=0)


def longest_repeated_suffix(text: list[int]) -> int:
    """By brute force: the longest suffix that also ends before the last position."""
    for length in range(len(text) - 1, 0, -1):
        suffix = text[-length:]
        if any(text[end - length : end] == suffix for end in range(length, len(text))):
            return length
    return 0


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.integers(0, k), max_size=60)))
def test_the_match_is_the_longest_suffix_that_occurred_before(tokens: list[int]) -> None:
    text = SuffixText(counts(), [])
    for index, token in enumerate(tokens):
        text.append([token])
        so_far = tokens[: index + 1]
        length, end = text.match_length, text.source
        assert length == longest_repeated_suffix(so_far)
        if length:
            assert end < index
            assert so_far[end - length + 1 : end + 1] == so_far[-length:]


def test_the_source_is_the_latest_occurrence_of_a_phrase() -> None:
    phrase = [7, 8, 9]
    tokens = [*phrase, 1, *phrase, 2, *phrase, 3, *phrase]
    text = SuffixText(counts(), tokens)
    assert text.match_length == 3
    assert tokens[text.source + 1] == 3


@pytest.mark.parametrize("tokens", ["rare and common ones", "the most states"])
def test_memory_per_token_is_bounded(tokens: str) -> None:
    rng = random.Random(4)
    if tokens == "the most states":
        # The text abb...b has 2n - 1 states, the most that an automaton of n tokens can have.
        text = [0] + [1] * 9_999
    else:
        text = [min(int(rng.paretovariate(0.7)), 40_000) for _ in range(10_000)]
    assert SuffixText(counts(), text).bytes / len(text) < 200


def test_impossible_tokens_and_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="token ids must be 0 or more"):
        SuffixText(counts(), [3, -1])
    with pytest.raises(ValueError, match="a class that does not exist"):
        SuffixCounts([0, 2], [0.1, 0.2], (1.0, 1.0), (1.0, 1.0))
