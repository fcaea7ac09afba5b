"""Operators and methods of chat templates, each with the check that keeps its result small."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from string import Formatter
from typing import Any

from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import Undefined

from nextn.text.template_limits import (
    MAX_SEARCH,
    LimitError,
    check_argument,
    check_bits,
    check_length,
    checked,
    collect,
    meter,
    weigh,
)

MAX_WIDTH = 1000
"""Bound of the width and the precision of a formatted field."""

_PRINTF_FIELD = re.compile(r"[#0 +-]*(?:\*|\d+)?(?:\.(?:\*|\d+)?)?")

BLANKS = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000"
"""Characters between words and lines."""

_VIEW_NAMES = frozenset(["dict_keys", "dict_values", "dict_items"])


def text(value: Any) -> str:
    """Return `value` as a template prints it.

    Raises:
        LimitError: the text would be too long.
        TemplateRuntimeError: the value has no text, such as a function.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | Undefined) or value is None:
        return str(value)
    if isinstance(value, list | tuple | dict | range) or type(value).__name__ in _VIEW_NAMES:
        check_length(weigh(value).printed)
        return str(value)
    raise TemplateRuntimeError(f"prints a value of type {type(value).__name__}, which has no text")


def output(value: Any) -> str:
    """Return the text of one `{{ ... }}`."""
    meter().step()
    return text(value)


def join_texts(pieces: list[str], separator: str = "") -> str:
    """Join texts after adding up their lengths."""
    check_length(sum(map(len, pieces)) + len(separator) * len(pieces))
    return str(checked(separator.join(pieces)))


def concatenate(parts: Any) -> str:
    """Join the parts of `a ~ b`, or the pieces of a block."""
    return join_texts([text(part) for part in collect(parts)])


def operand(value: Any) -> Any:
    """Pass on a value that is going to be compared or hashed, if it is small enough for that."""
    weigh(value)
    return value


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        check_length(len(left) + len(right))
    return left + right


def _multiply(left: Any, right: Any) -> Any:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            check_length(len(sequence) * max(count, 0))
            return sequence * count
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() + right.bit_length())
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() * abs(right))
    return left**right


def _modulo(left: Any, right: Any) -> Any:
    return printf(left, right) if isinstance(left, str) else left % right


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": _add,
    "*": _multiply,
    "**": _power,
    "%": _modulo,
}
"""Binary operators whose result can be much larger than their operands."""


def printf(pattern: str, values: Any) -> str:
    """Apply `%` formatting, assuming that each field prints all the values."""
    at = pattern.find("%")
    while at >= 0:
        at = _after_key(pattern, at + 1)
        field = _PRINTF_FIELD.match(pattern, at)
        if field is not None:
            _check_width(field.group(), computed="*")
            at = field.end()
        at = pattern.find("%", at + 1)
    check_length(len(pattern) + pattern.count("%") * (weigh(values).printed + MAX_WIDTH))
    formatted: str = pattern % values
    return formatted


def _after_key(pattern: str, at: int) -> int:
    """Return the place after a key such as "(name)", whose parentheses may be nested."""
    if pattern[at : at + 1] != "(":
        return at
    depth = 0
    for place in range(at, len(pattern)):
        depth += {"(": 1, ")": -1}.get(pattern[place], 0)
        if depth == 0:
            return place + 1
    return len(pattern)


def check_format(pattern: str, values: Any) -> None:
    """Check a call of `str.format`, assuming that each field prints all the values."""
    fields = 0
    for _, name, specification, _ in Formatter().parse(pattern):
        if name is not None:
            fields += 1
            _check_width(specification or "", computed="{")
    check_length(len(pattern) + fields * (weigh(values).printed + MAX_WIDTH))


def _check_width(specification: str, computed: str) -> None:
    if computed in specification:
        raise LimitError("formats with a computed width")
    if any(int(number) >= MAX_WIDTH for number in re.findall(r"\d+", specification)):
        raise LimitError(f"formats with a width or precision of {MAX_WIDTH} or more")


def check_replace(value: str, old: str, new: str, *_: Any, **__: Any) -> None:
    """Check a call of `str.replace`."""
    check_length(len(value) + max(0, len(new) - len(old)) * value.count(old))


def check_parts(value: str, separators: Iterable[str]) -> None:
    """Check an operation that cuts a text into parts, which cost more than their characters."""
    meter().charge(80 * (1 + sum(map(value.count, separators))))


def check_search(value: str, wanted: object) -> None:
    """Check a search that compares all of `wanted` at each position of `value`."""
    if isinstance(wanted, str) and len(value) * len(wanted) > MAX_SEARCH:
        raise LimitError("searches a long text for a long text from its end")


def check_pad(value: str, width: int = 0, *_: Any, **__: Any) -> None:
    """Check a call of `str.center` and its kin."""
    check_length(max(len(value), width))


def _check_split(value: str, sep: str | None = None, maxsplit: int = -1) -> None:
    check_parts(value, [sep] if sep else BLANKS)


def _check_split_from_end(value: str, sep: str | None = None, maxsplit: int = -1) -> None:
    check_search(value, sep)
    _check_split(value, sep)


def _check_lines(value: str, keepends: bool = False) -> None:
    check_parts(value, BLANKS)


def _check_from_end(value: str, wanted: object = None, *_: Any) -> None:
    check_search(value, wanted)


_METHOD_CHECKS: dict[str, Callable[..., None]] = {
    "center": check_pad,
    "ljust": check_pad,
    "lstrip": _check_from_end,
    "replace": check_replace,
    "rfind": _check_from_end,
    "rindex": _check_from_end,
    "rjust": check_pad,
    "rpartition": _check_from_end,
    "rsplit": _check_split_from_end,
    "rstrip": _check_from_end,
    "split": _check_split,
    "splitlines": _check_lines,
    "strip": _check_from_end,
    "zfill": check_pad,
}


def call_method(method: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Call a method of a built-in value."""
    owner, name = method.__self__, method.__name__
    for argument in (*args, *named.values()):
        check_argument(argument)
        weigh(argument)
    if isinstance(owner, str):
        if name == "join" and len(args) == 1:
            return join_texts(_only_texts(args[0]), owner)
        if name in _METHOD_CHECKS:
            _METHOD_CHECKS[name](owner, *args, **named)
    elif name in ("count", "index"):
        weigh(owner)
    return method(*args, **named)


def _only_texts(items: Any) -> list[str]:
    pieces = collect(items)
    for index, piece in enumerate(pieces):
        if not isinstance(piece, str):
            kind = type(piece).__name__
            raise TypeError(f"sequence item {index}: expected str instance, {kind} found")
    return pieces
