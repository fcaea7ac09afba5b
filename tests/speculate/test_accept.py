from hypothesis import given
from hypothesis import strategies as st

from nextn.sampling import Choice
from nextn.speculate import Draft, accept

TOKENS = st.lists(st.integers(0, 2), max_size=6)


@given(TOKENS, st.lists(st.integers(0, 2), min_size=7, max_size=7))
def test_accepts_what_sequential_decoding_would_have_written(
    drafted: list[int], written: list[int]
) -> None:
    asked: list[int] = []

    def choose(row: int) -> Choice:
        # A row is only meaningful if the drafts before it are the written tokens.
        assert drafted[:row] == written[:row]
        asked.append(row)
        return Choice(written[row])

    choices = [choice.token for choice in accept(drafted, choose)]

    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == written[accepted]:
        accepted += 1
    assert choices == written[: accepted + 1]
    assert asked == list(range(accepted + 1))


def test_choices_keep_their_log_probabilities() -> None:
    choices = accept([5], lambda row: Choice(5 + row, -0.25 * row, ((5 + row, -0.25 * row),)))
    assert choices == [Choice(5, -0.0, ((5, -0.0),)), Choice(6, -0.25, ((6, -0.25),))]


def test_a_draft_is_cut_to_the_depth_of_the_step() -> None:
    draft = Draft([1, 2, 3], [0.9, 0.8, 0.7], "suffix")
    assert draft.cut(2) == Draft([1, 2], [0.9, 0.8], "suffix")
    assert draft.cut(0) == Draft([], [], "suffix")
    assert draft.cut(5) == draft
