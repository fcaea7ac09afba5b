from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.speculate.automaton import SuffixAutomaton


def longest_repeated_suffix(text: list[int]) -> int:
    """By brute force: the longest suffix that also ends before the last position."""
    for length in range(len(text) - 1, 0, -1):
        suffix = text[-length:]
        if any(text[end - length : end] == suffix for end in range(length, len(text))):
            return length
    return 0


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.integers(0, k), max_size=60)))
def test_the_match_is_the_longest_suffix_that_occurred_before(text: list[int]) -> None:
    automaton = SuffixAutomaton()
    for index, token in enumerate(text):
        automaton.append(token)
        so_far = text[: index + 1]
        length, end = automaton.match_length, automaton.match_end
        assert length == longest_repeated_suffix(so_far)
        if length:
            assert end < index
            assert so_far[end - length + 1 : end + 1] == so_far[-length:]
    assert automaton.text.tolist() == text


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda k: st.lists(st.integers(0, k), max_size=40)),
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
)
def test_a_continuation_is_matched_within_the_text_and_changes_nothing(
    text: list[int], tokens: list[int]
) -> None:
    automaton = SuffixAutomaton()
    for token in text:
        automaton.append(token)
    before = automaton.match_length, automaton.match_end, len(automaton._length)
    length, end = automaton.match_with(tokens)
    longer = [*text, *tokens]
    found = [
        count
        for count in range(1, len(text) + 1)
        if any(text[e - count : e] == longer[-count:] for e in range(count, len(text) + 1))
    ]
    # The whole text, with nothing of the continuation, is no match.
    assert length == max(found, default=0)
    if length:
        assert text[end - length + 1 : end + 1] == longer[-length:]
    else:
        assert end == -1
    assert (automaton.match_length, automaton.match_end, len(automaton._length)) == before
    assert automaton.text.tolist() == text


def test_the_source_is_the_latest_occurrence_of_a_phrase() -> None:
    phrase = [7, 8, 9]
    automaton = SuffixAutomaton()
    text = [*phrase, 1, *phrase, 2, *phrase, 3, *phrase]
    for token in text:
        automaton.append(token)
    assert automaton.match_length == 3
    assert text[automaton.match_end + 1] == 3


def test_states_and_transitions_stay_linear() -> None:
    # The text abb...b has the most states, 2n - 1, that an automaton of n tokens can have.
    automaton = SuffixAutomaton()
    n = 2000
    for token in [0] + [1] * (n - 1):
        automaton.append(token)
    assert len(automaton._length) <= 2 * n
    assert sum(map(len, automaton._branches.values())) <= n
