"""The form of an answer in a chat: what tools, reasoning and a wanted form make of it together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nextn.errors import RequestError
from nextn.grammar import Specification, check_schema, specification_from_settings
from nextn.sampling.limited_part import PartLimit
from nextn.server.errors import ApiError, bad_field
from nextn.text.dialects import Dialect, Tool
from nextn.text.dialects.grammar import answer_grammar, call_grammar, terms
from nextn.text.dialects.tools import ToolSchemaError

if TYPE_CHECKING:
    from nextn.model import Model
    from nextn.sampling import ConstraintSource
    from nextn.server.chat import ChatRequest


def chat_constraint(
    model: Model, request: ChatRequest, tools: Sequence[Tool], *, opened: bool
) -> ConstraintSource | None:
    """The constraint of an answer, if it has any.

    Args:
        model: which writes.
        request: the conversation.
        tools: the tools that may be called; none if calls are not wanted.
        opened: whether the prompt opened the reasoning.

    Raises:
        ApiError: a form that is wrong, or that there cannot be together with tools.
    """
    try:
        specification = _specification(model, request, tools, opened)
        if specification is None:
            return _with_budget(model, request, None, opened)
        try:
            form = model.grammars.compile(specification)
        except RequestError:
            _find_fault(model, request)
            raise
        return _with_budget(model, request, form, opened)
    except ToolSchemaError as error:
        names = [tool["function"]["name"] for tool in request.tools]
        field = f"tools[{names.index(error.tool)}].function.parameters"
        raise ApiError(400, f"{field}: {error}", field=field, code="invalid_value") from error
    except RequestError as error:
        # Its message begins with the name of the field.
        name = str(error).split(maxsplit=1)[0].rstrip(":")
        raise ApiError(400, str(error), field=name, code="invalid_value") from error


def _with_budget(
    model: Model, request: ChatRequest, form: ConstraintSource | None, opened: bool
) -> ConstraintSource | None:
    """The form of an answer whose reasoning ends at its budget."""
    marks = model.chat_encoder.dialect.reasoning_marks
    if request.reasoning_budget is None or marks is None:
        return form
    return PartLimit(
        vocab_size=model.executor.vocab_size,
        most=request.reasoning_budget,
        begin=b"" if opened else marks.begin.encode(),
        end=marks.end.encode(),
        closing=tuple(
            model.tokenizer.encode(marks.end, add_special=False, parse_special=True, continues=True)
        ),
        spell=model.tokenizer.token_bytes,
        inner=form,
    )


def _find_fault(model: Model, request: ChatRequest) -> None:
    """Compile what was put together piece by piece, so that the one that is wrong is named.

    Raises:
        RequestError: it was found.
    """
    for place, tool in enumerate(request.tools):
        schema = json.dumps(tool["function"].get("parameters") or {})
        field = f"tools[{place}].function.parameters"
        model.grammars.compile(Specification("json_schema", schema, field))
    form = specification_from_settings(
        {name: value for name, value in request.writing.form.items() if value is not None}
    )
    if form is not None:
        model.grammars.compile(form)


def _specification(
    model: Model, request: ChatRequest, tools: Sequence[Tool], opened: bool
) -> Specification | None:
    dialect = model.chat_encoder.dialect
    given = {name: value for name, value in request.writing.form.items() if value is not None}
    form = specification_from_settings(given)
    term = terms(model.tokenizer)
    # Who names a tool means one call of it.
    if tools:
        # They become parts of a grammar, where nothing else would look at them.
        for place, tool in enumerate(request.tools):
            check_schema(f"tools[{place}].function.parameters", tool["function"].get("parameters"))
    several = request.parallel_tool_calls and request.tool_choice in ("auto", "required")
    if tools and request.tool_choice != "auto":
        if form is not None:
            raise bad_field(form.field, "cannot be together with a tool that must be called")
        text = call_grammar(dialect, tools, term, several=several, opened=opened)
        return Specification("lark", text, "tools")
    if form is None:
        return None
    if form.kind == "json_schema":
        schema = json.loads(form.text)
        if tools:
            text = call_grammar(dialect, tools, term, several=several, opened=opened, answer=schema)
        elif dialect.reasoning is not None or dialect.calls.always:
            text = answer_grammar(dialect, schema, term, opened=opened)
        else:
            return form
        return Specification("lark", text, form.field)
    if tools:
        raise bad_field(
            form.field, "cannot be together with tools; give a JSON schema, or no tools"
        )
    return _after_reasoning(form, dialect, opened)


def _after_reasoning(form: Specification, dialect: Dialect, opened: bool) -> Specification:
    if form.after is not None:
        return form
    if opened and dialect.reasoning is not None:
        return replace(form, after=dialect.reasoning.end)
    return replace(form, after=dialect.calls.answer_mark or None)
