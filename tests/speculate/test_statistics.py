from nextn.speculate import Draft, SpeculationStatistics


def test_counts_by_position_and_drafter() -> None:
    statistics = SpeculationStatistics()
    statistics.record(None, 0)
    statistics.record(Draft([1, 2, 3], [0.5] * 3, "suffix"), 2)
    statistics.record(Draft([1], [0.5], "head"), 1)
    statistics.record(Draft([1, 2], [0.5] * 2, "suffix"), 0)
    statistics.record(Draft(), 0)
    assert (statistics.steps, statistics.drafted, statistics.accepted) == (5, 6, 3)
    assert statistics.drafted_at == [3, 2, 1]
    assert statistics.accepted_at == [2, 1, 0]
    assert statistics.acceptance == 0.5
    assert statistics.tokens_per_step == 8 / 5
    suffix = statistics.by_drafter["suffix"]
    assert (suffix.drafted, suffix.accepted, suffix.drafted_at) == (5, 2, [2, 2, 1])
    assert statistics.by_drafter["head"].acceptance == 1.0


def test_a_tail_counts_for_the_drafter_of_its_tokens() -> None:
    statistics = SpeculationStatistics()
    joined = Draft([1, 2], [0.9] * 2, "head").followed_by(Draft([3, 4], [0.8] * 2, "suffix"))
    statistics.record(joined, 3)
    statistics.record(joined.cut(2), 2)
    assert (statistics.drafted, statistics.accepted) == (6, 5)
    head, suffix = statistics.by_drafter["head"], statistics.by_drafter["suffix"]
    assert (head.drafted, head.accepted, head.accepted_at) == (4, 4, [2, 2])
    assert (suffix.drafted, suffix.accepted) == (2, 1)
    assert (suffix.drafted_at, suffix.accepted_at) == ([0, 0, 1, 1], [0, 0, 1, 0])


def test_nothing_counted_divides_by_nothing() -> None:
    empty = SpeculationStatistics()
    assert (empty.acceptance, empty.tokens_per_step) == (0.0, 0.0)
