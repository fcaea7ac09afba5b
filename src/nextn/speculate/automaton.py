"""An online suffix automaton: finds where the end of a text occurred before.

The automaton of Blumer et al. (1985, "The smallest automaton recognizing the subwords of a text")
in the online form: one token is appended at a time, in amortised constant time, with at most 2n
states for n tokens. A state stands for all substrings that end at the same set of positions; its
suffix link leads to the longest suffix of them that also ends elsewhere. So after an append the
suffix link of the newest state is the longest suffix of the text that occurred before.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

_NONE = -1


class SuffixAutomaton:
    """A text of token ids >= 0, and the longest suffix of it that occurred before.

    Most states have one transition. It is kept in two flat arrays; only states that branch own a
    dictionary, which keeps 128k tokens of text below 40 MB.

    Attributes:
        text: the tokens so far (int32).
        match_length: length of the longest suffix of the text that also ends earlier; 0 for none.
        match_end: index in `text` of the last token of such an earlier occurrence (the most recent
            one that is known without extra work; -1 for none). Always below `len(text) - 1`.
    """

    __slots__ = (
        "_branches",
        "_edge_target",
        "_edge_token",
        "_last",
        "_length",
        "_link",
        "_recent",
        "match_end",
        "match_length",
        "text",
    )

    def __init__(self) -> None:
        self.text = array("i")
        self.match_length = 0
        self.match_end = _NONE
        self._last = 0
        # By state; state 0 is the empty string.
        self._length = array("i", [0])
        self._link = array("i", [_NONE])
        self._recent = array("i", [_NONE])  # where a string of this state ended lately
        self._edge_token = array("i", [_NONE])
        self._edge_target = array("i", [_NONE])
        self._branches: dict[int, dict[int, int]] = {}  # every further transition

    def append(self, token: int) -> None:
        """Append one token, and update the match."""
        length, link, recent = self._length, self._link, self._recent
        edge_token, edge_target, branches = self._edge_token, self._edge_target, self._branches
        position = len(self.text)
        self.text.append(token)
        newest = len(length)
        length.append(position + 1)
        link.append(0)
        recent.append(position)
        edge_token.append(_NONE)
        edge_target.append(_NONE)

        # Walk the suffixes, longest first, up to the first that had this token after it before.
        state = self._last
        target = _NONE
        while state != _NONE:
            first = edge_token[state]
            if first == token:
                target = edge_target[state]
                break
            if first == _NONE:
                edge_token[state] = token
                edge_target[state] = newest
            else:
                more = branches.get(state)
                if more is None:
                    branches[state] = {token: newest}
                else:
                    found = more.get(token)
                    if found is not None:
                        target = found
                        break
                    more[token] = newest
            state = link[state]

        if target == _NONE:
            match = 0
        elif length[target] == length[state] + 1:
            match = target
        else:
            match = self._split(state, token, target)
        link[newest] = match
        self._last = newest
        self.match_length = length[match]
        self.match_end = recent[match] if match else _NONE
        recent[match] = position

    def match_with(self, tokens: Sequence[int]) -> tuple[int, int]:
        """The match that the text would have if `tokens` followed it; changes nothing.

        Returns:
            The length of the longest suffix of text and tokens that occurs in the text, 0 for none;
            and the index of the last token of such an occurrence, -1 for none.
        """
        length, state = self.match_length, self._link[self._last] if self.text else 0
        for token in tokens:
            target = self._next(state, token)
            while target == _NONE and state != 0:
                state = self._link[state]
                length = self._length[state]
                target = self._next(state, token)
            if target == _NONE:
                length = 0
            else:
                state = target
                length += 1
        return length, self._recent[state] if length else _NONE

    def _next(self, state: int, token: int) -> int:
        """The state of the strings of `state` with `token` after them; -1 if there is none."""
        if self._edge_token[state] == token:
            return self._edge_target[state]
        more = self._branches.get(state)
        return _NONE if more is None else more.get(token, _NONE)

    def _split(self, state: int, token: int, target: int) -> int:
        """Give the strings that reach `target` from `state` and its suffixes a state of their own.

        They end at the new position now, the longer strings of `target` do not.
        """
        link, edge_token, edge_target = self._link, self._edge_token, self._edge_target
        clone = len(link)
        self._length.append(self._length[state] + 1)
        self._recent.append(self._recent[target])
        edge_token.append(edge_token[target])
        edge_target.append(edge_target[target])
        more = self._branches.get(target)
        if more is not None:
            self._branches[clone] = more.copy()
        link.append(link[target])
        link[target] = clone
        while state != _NONE:
            if edge_token[state] == token:
                if edge_target[state] != target:
                    break
                edge_target[state] = clone
            else:
                more = self._branches[state]
                if more[token] != target:
                    break
                more[token] = clone
            state = link[state]
        return clone
