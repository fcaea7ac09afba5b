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
    assert statistics.judged_at == [3, 1, 1]
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


def test_acceptance_by_position_counts_what_all_before_let_through() -> None:
    statistics = SpeculationStatistics()
    for drafted, accepted in ((3, 0), (3, 1), (3, 3), (1, 1)):
        statistics.record(Draft([7] * drafted, [0.5] * drafted, "head"), accepted)
    assert statistics.judged_at == [4, 2, 1]
    assert statistics.acceptance_at == [0.75, 0.5, 1.0]
    assert statistics.by_drafter["head"].acceptance_at == [0.75, 0.5, 1.0]


def test_a_position_that_was_never_judged_has_no_acceptance() -> None:
    statistics = SpeculationStatistics()
    statistics.record(Draft([1, 2], [0.5] * 2, "head"), 0)
    assert statistics.acceptance_at == [0.0, 0.0]


def test_counts_can_be_added() -> None:
    first, second, both = (SpeculationStatistics() for _ in range(3))
    first.record(Draft([1], [0.5], "head"), 1)
    second.record(Draft([1, 2], [0.5] * 2, "head"), 1)
    second.record(Draft([1], [0.5], "suffix"), 0)
    for one in (first, second):
        both.add(one)
    assert (both.steps, both.drafted_at, both.accepted_at) == (3, [3, 1], [2, 0])
    assert both.by_drafter["head"].drafted_at == [2, 1]
    assert both.by_drafter["suffix"].drafted == 1
    assert (first.drafted, second.by_drafter["head"].drafted) == (1, 2)
