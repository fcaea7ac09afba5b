"""Drafters and decisions that need no model, and check how the engine treats them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nextn.backends.base import BLOCK_TOKENS
from nextn.speculate import Committed, DepthController, Draft, Load, Prospect, Want


class RandomDepth(DepthController):
    """Verifies any number of drafted tokens."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def plan(self, load: Load, prospects: Sequence[Prospect]) -> tuple[list[int], float]:
        return [self._random.randint(0, prospect.room) for prospect in prospects], 0.1

    def choose(self, drafts: Sequence[Draft], load: Load) -> list[int]:
        assert load.rows >= len(drafts) == len(load.sequences)
        return [self._random.randint(0, len(draft.tokens)) for draft in drafts]


class Parrot:
    """Drafts the last token again and again; checks that it sees every row exactly once."""

    name = "parrot"

    def __init__(self, free: bool = True) -> None:
        self.free = free
        self.texts: dict[int, list[int]] = {}
        self.pending: dict[int, int | None] = {}

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        assert sequence not in self.texts
        self.texts[sequence] = list(tokens[:cached])
        self.pending[sequence] = None

    def close(self, sequence: int) -> None:
        del self.texts[sequence]

    def behind(self, sequence: int) -> int:
        return 0 if self.free else len(self.texts[sequence])

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        drafts = []
        for want in wants:
            assert want.limit >= 1
            token = self.pending[want.sequence]
            if token is None:  # a prompt of which all but one token was cached
                drafts.append(Draft())
                continue
            assert want.tokens == [*self.texts[want.sequence], token]
            assert want.position == len(want.tokens) + len(want.prefix)
            draft = Draft([token] * want.limit, [0.3] * want.limit, self.name)
            if not self.free:
                assert not want.prefix
                draft.passes = want.limit
                # All drafted rows but the last, which nothing follows, have room in the cache.
                assert len(want.table) * BLOCK_TOKENS >= len(want.tokens) + want.limit
            drafts.append(draft)
        return drafts

    def observe(self, committed: Sequence[Committed]) -> None:
        for part in committed:
            pending = self.pending[part.sequence]
            assert pending is None or part.tokens[0] == pending
            self.texts[part.sequence] += part.tokens
            self.pending[part.sequence] = part.next_token
            length = len(self.texts[part.sequence])
            assert part.text[:length] == self.texts[part.sequence]
            assert part.next_token is None or part.text[length:] == [part.next_token]
            assert length <= len(part.table) * BLOCK_TOKENS
            assert all(draft.tokens for draft in part.drafts)
            if part.drafted is not None:
                assert part.drafted.tokens[: part.accepted] == part.tokens[1:]
