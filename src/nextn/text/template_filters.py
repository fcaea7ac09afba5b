"""Filters, tests and functions of chat templates, each with the check that keeps its work small."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from jinja2 import filters, tests
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.utils import Cycler, Joiner, Namespace, pass_environment

from nextn.text.template_limits import (
    LimitError,
    check_argument,
    check_length,
    checked,
    collect,
    meter,
    weigh,
)
from nextn.text.template_values import (
    BLANKS,
    OPERATORS,
    check_pad,
    check_parts,
    check_replace,
    check_search,
    join_texts,
    printf,
    text,
)

# fmt: off
_SHALLOW_FILTERS = [
    "abs", "attr", "count", "d", "default", "first", "float", "int", "items", "last", "length",
    "list", "map", "reject", "rejectattr", "reverse", "round", "select", "selectattr",
]
"""Filters that leave the inside of their value alone."""

_DEEP_FILTERS = [
    "capitalize", "center", "dictsort", "e", "escape", "format", "groupby", "indent", "join",
    "lower", "max", "min", "replace", "safe", "sort", "string", "sum", "title", "tojson", "trim",
    "truncate", "unique", "upper",
]
"""Filters that print, compare or sort their value."""

_COMPARISONS = [
    "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge", "<", "lt", "lessthan",
    "<=", "le", "in",
]
"""Tests that compare their value."""
# fmt: on

MAX_DATE_FORMAT = 200
"""Longest format given to `strftime_now`, in characters."""


@pass_environment
def _join(environment: Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
    items = _items(environment, value, attribute)
    return join_texts([text(item) for item in items], text(d))


@pass_environment
def _sum(environment: Environment, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = _items(environment, value, attribute)
    return functools.reduce(lambda total, item: checked(OPERATORS["+"](total, item)), items, start)


def _items(environment: Environment, value: Any, attribute: Any) -> list[Any]:
    items = collect(value)
    if attribute is None:
        return items
    getter = filters.make_attrgetter(environment, attribute)
    return [getter(item) for item in items]


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    margin = len(indent) if isinstance(indent, str) else indent or 0
    weight = weigh(value)
    per_value = sum(map(len, separators or ())) + 4 + margin * (weight.depth + 1)
    check_length(weight.characters + weight.nodes * per_value)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _escape(value: Any) -> str:
    plain = text(value)
    check_length(len(plain) + 5 * sum(map(plain.count, "<>&'\"")))
    return html.escape(plain).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _indent(value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    plain = text(value)
    margin = len(width) if isinstance(width, str) else width
    check_parts(plain, BLANKS)
    check_length(len(plain) + (plain.count("\n") + 2) * margin)
    return filters.do_indent(plain, width, first, blank)


def _title(value: Any) -> str:
    plain = text(value)
    check_parts(plain, [*BLANKS, *"-({[<"])
    return filters.do_title(plain)


def _trim(value: Any, chars: str | None = None) -> str:
    check_search(text(value), chars)
    return text(value).strip(chars)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    plain, old, new = text(value), text(old), text(new)
    check_replace(plain, old, new)
    return plain.replace(old, new, -1 if count is None else count)


def _center(value: Any, width: int = 80) -> str:
    check_pad(text(value), width)
    return text(value).center(width)


def _format(value: Any, *values: Any, **named: Any) -> str:
    if values and named:
        raise TemplateRuntimeError("formats with positional and named values at once")
    return printf(text(value), named or values)


@pass_environment
def _attribute(environment: Environment, value: Any, name: str) -> Any:
    return environment.getattr(value, name)


_OWN_FILTERS: dict[str, Callable[..., Any]] = {
    "attr": _attribute,
    "center": _center,
    "e": _escape,
    "escape": _escape,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "list": collect,
    "replace": _replace,
    "safe": text,
    "string": text,
    "sum": _sum,
    "title": _title,
    "tojson": _tojson,
    "trim": _trim,
}


def _guard(function: Callable[..., Any], *, deep: bool) -> Callable[..., Any]:
    """Put the checks before and after a filter or test; `deep` ones walk through their value."""
    skip = 0 if getattr(function, "jinja_pass_arg", None) is None else 1

    @functools.wraps(function)
    def guarded(*args: Any, **named: Any) -> Any:
        meter().step()
        before, value, arguments = args[:skip], args[skip], args[skip + 1 :]
        if deep:
            if isinstance(value, Iterator):
                value = collect(value)
            weigh(value)
        for argument in (*arguments, *named.values()):
            check_argument(argument)
            weigh(argument)
        return checked(function(*before, value, *arguments, **named))

    return guarded


FILTERS: dict[str, Callable[..., Any]] = {
    name: _guard({**filters.FILTERS, **_OWN_FILTERS}[name], deep=name in _DEEP_FILTERS)
    for name in (*_SHALLOW_FILTERS, *_DEEP_FILTERS)
}
"""All filters that a chat template may use."""

_JINJA_TESTS: dict[str, Any] = dict(tests.TESTS)
TESTS: dict[str, Callable[..., Any]] = {
    name: _guard(test, deep=name in _COMPARISONS) for name, test in _JINJA_TESTS.items()
}
"""All tests that a chat template may use."""


class SafeNamespace(Namespace):
    """Jinja's namespace, without names that begin with an underscore."""

    def __init__(*args: Any, **named: Any) -> None:
        values = _make_dict(*args[1:], **named)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        """Store an attribute, for `{% set namespace.name = value %}`."""
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not have the name {name!r}")


def _make_dict(*values: Any, **named: Any) -> dict[Any, Any]:
    for value in values:
        weigh(value)
    return dict(*values, **named)


def _make_range(*bounds: int) -> range:
    for bound in bounds:
        check_argument(bound)
    return range(*bounds)


def _strftime_now(pattern: str) -> str:
    if len(pattern) > MAX_DATE_FORMAT:
        raise LimitError(f"formats the date with more than {MAX_DATE_FORMAT} characters")
    return datetime.now().strftime(pattern)


def _raise_exception(message: Any) -> None:
    raise TemplateRuntimeError(text(message))


FUNCTIONS: dict[str, Any] = {
    "cycler": Cycler,
    "dict": _make_dict,
    "joiner": Joiner,
    "namespace": SafeNamespace,
    "raise_exception": _raise_exception,
    "range": _make_range,
    "strftime_now": _strftime_now,
}
"""All functions that a chat template may call."""
