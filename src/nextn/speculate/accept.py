"""Which drafted tokens become text: the rule that makes speculation invisible."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nextn.sampling.sampler import Choice


def accept(draft_tokens: Sequence[int], choose: Callable[[int], Choice]) -> list[Choice]:
    """Keep the trunk's own choices for as long as the draft foresaw them.

    The step has run the rows [last token, draft 0, ..., draft k-1], so that row i holds the logits
    for the position of draft i under the assumption that drafts 0 .. i-1 are text.

    Rule: make the trunk's choice at row 0, 1, ... and stop after the first choice that is not the
    drafted token, or after row k. Draft i is accepted exactly if the choice at row i is draft i.

    Why the text is the same as without drafts: by induction over i. Choice i is made only when
    choices 0 .. i-1 equal drafts 0 .. i-1. Then row i was computed from exactly the tokens that
    plain decoding would have written by now, and row invariance makes its logits equal, bit for
    bit, to those of a plain step. A choice is a pure function of (logits, tokens before it,
    position), the noise included, so choice i is the token that plain decoding would choose. The
    last choice, accepted or not, is never taken from the draft, so a wrong draft still yields one
    token. No probability of the draft enters, hence nothing has to be corrected for (compare the
    rejection rule of Leviathan et al., 2023, which preserves the distribution but not the text).

    Args:
        draft_tokens: the k verified tokens; may be empty.
        choose: makes the trunk's choice from row i (0 <= i <= k). Called with i = 0, 1, ... in
            order, and only if choices 0 .. i-1 were the drafted tokens.

    Returns:
        The choices: 1 <= n <= k + 1, of which the first n - 1 equal the draft. n - 1 tokens were
        accepted; the last one has not been through a step yet.
    """
    choices: list[Choice] = []
    for index, token in enumerate(draft_tokens):
        choice = choose(index)
        choices.append(choice)
        if choice.token != token:
            return choices
    choices.append(choose(len(draft_tokens)))
    return choices
