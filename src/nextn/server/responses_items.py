"""The items of an answer of the Responses API, and the events that tell how they grow."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from nextn.server.openai_chat import call_id
from nextn.server.openai_types import TokenLogprob
from nextn.server.responses_types import (
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    ResponseEvent,
)
from nextn.text.dialects import CallArguments, CallBegin, CallEnd, Delta, Reasoning, Text


@dataclass(slots=True)
class OutputItems:
    """Puts the items of an answer together from its parts.

    Attributes:
        items: those so far; all but the last are finished.
    """

    items: list[OutputItem] = field(default_factory=list)

    def add(self, part: Delta, logprobs: list[TokenLogprob]) -> Iterator[ResponseEvent]:
        """Take the next part; what it changes, as events.

        Args:
            part: of the answer.
            logprobs: of its tokens, if it is text and they were asked for.
        """
        match part:
            case Text(text):
                if not isinstance(self._open, OutputMessage):
                    yield from self._begin(OutputMessage(id=_new_id("msg")), OutputText())
                yield from self._grow("output_text", text, logprobs)
            case Reasoning(text):
                if not isinstance(self._open, OutputReasoning):
                    yield from self._begin(OutputReasoning(id=_new_id("rs")), ReasoningText())
                yield from self._grow("reasoning_text", text, [])
            case CallBegin(_, name):
                call = OutputCall(id=_new_id("fc"), call_id=call_id(), name=name)
                yield from self._begin(call)
            case CallArguments(_, text):
                call = self._call
                call.arguments += text
                if text:
                    yield self._event("function_call_arguments.delta", delta=text)
            case CallEnd(_, complete):
                yield from self.finish(complete=complete)

    def finish(self, *, complete: bool) -> Iterator[ResponseEvent]:
        """Finish the item that is open, if one is."""
        item = self._open
        if item is None:
            return
        item.status = "completed" if complete else "incomplete"
        match item:
            case OutputMessage(content=[part]):
                yield self._event(
                    "output_text.done", text=part.text, content_index=0, logprobs=part.logprobs
                )
                yield self._event("content_part.done", part=part, content_index=0)
            case OutputReasoning(content=[part]):
                yield self._event("reasoning_text.done", text=part.text, content_index=0)
                yield self._event("content_part.done", part=part, content_index=0)
            case OutputCall():
                yield self._event(
                    "function_call_arguments.done", name=item.name, arguments=item.arguments
                )
        yield self._item_event("output_item.done", item)

    @property
    def _open(self) -> OutputItem | None:
        last = self.items[-1] if self.items else None
        return last if last is not None and last.status == "in_progress" else None

    @property
    def _call(self) -> OutputCall:
        call = self._open
        assert isinstance(call, OutputCall)
        return call

    def _begin(
        self, item: OutputItem, part: OutputText | ReasoningText | None = None
    ) -> Iterator[ResponseEvent]:
        yield from self.finish(complete=True)
        self.items.append(item)
        yield self._item_event("output_item.added", item)
        if part is not None:
            item.content.append(part)  # type: ignore[union-attr, arg-type]
            yield self._event("content_part.added", part=part, content_index=0)

    def _grow(self, kind: str, text: str, logprobs: list[TokenLogprob]) -> Iterator[ResponseEvent]:
        item = self._open
        assert isinstance(item, OutputMessage | OutputReasoning)
        part = item.content[0]
        part.text += text
        event = self._event(f"{kind}.delta", delta=text, content_index=0)
        if isinstance(part, OutputText):
            part.logprobs += logprobs
            event.logprobs = logprobs
        yield event

    def _event(self, kind: str, **fields: object) -> ResponseEvent:
        place = len(self.items) - 1
        return ResponseEvent(
            type=f"response.{kind}",
            output_index=place,
            item_id=self.items[place].id,
            **fields,  # type: ignore[arg-type]
        )

    def _item_event(self, kind: str, item: OutputItem) -> ResponseEvent:
        return ResponseEvent(type=f"response.{kind}", output_index=len(self.items) - 1, item=item)


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"
