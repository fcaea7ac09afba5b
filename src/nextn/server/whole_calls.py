"""Tool calls in one piece, for APIs that have no fragments of them."""

from __future__ import annotations

from dataclasses import dataclass

from nextn.text.dialects import CallArguments, CallBegin, CallEnd, Delta


@dataclass(frozen=True, slots=True)
class WholeCall:
    """A call whose arguments are complete.

    Attributes:
        index: its number in the answer, from 0.
        name: the tool.
        arguments: a JSON object.
    """

    index: int
    name: str
    arguments: str


class CallCollector:
    """Puts calls together from their parts."""

    def __init__(self) -> None:
        self._name = self._arguments = self._source = ""

    def take(self, part: Delta) -> WholeCall | str | None:
        """Take the next part of an answer.

        Returns:
            A call that it completes. Of a call that breaks off, all that the model wrote, which is
            text then. None for any other part.
        """
        match part:
            case CallBegin(_, name, source):
                self._name, self._arguments, self._source = name, "", source
            case CallArguments(_, text, source):
                self._arguments += text
                self._source += source
            case CallEnd(index, complete, source):
                if complete:
                    return WholeCall(index, self._name, self._arguments)
                return self._source + source
        return None
