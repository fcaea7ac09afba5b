"""Reads JSON that arrives in pieces (RFC 8259), and says where it ends or stops being JSON."""

from __future__ import annotations

import re

from nextn.text.dialects.reader import Reader, Steps

MAX_DEPTH = 64
"""Deepest nesting of a value; what nests deeper is not taken for JSON."""

MAX_KEY = 256
"""Longest key or name that is read, in characters."""

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(r"[0-9]*")
_HEX = re.compile(r"[0-9a-fA-F]*")
_UNLIMITED = 1 << 62


def read_space(reader: Reader) -> Steps[None]:
    """Step over the white space of JSON."""
    yield from reader.match(_SPACE, _UNLIMITED)


def read_value(reader: Reader, depth: int = 0) -> Steps[bool]:
    """Step over a value; False, somewhere within it, if it is none.

    The text before the place is the begin of a value at any time, so that it can be handed out
    while the rest is awaited.
    """
    first = yield from reader.peek()
    if first == '"':
        return (yield from read_string(reader))
    if first in ("{", "["):
        return (yield from _read_container(reader, first == "{", depth))
    if first in ("t", "f", "n"):
        return bool((yield from reader.accept("true", "false", "null")))
    return (yield from _read_number(reader))


def read_string(reader: Reader) -> Steps[bool]:
    """Step over a string; False if it is none."""
    if not (yield from reader.accept('"')):
        return False
    while True:
        yield from reader.match(_PLAIN, _UNLIMITED)
        if (yield from reader.accept('"')):
            return True
        if not (yield from reader.accept("\\")):
            return False
        if (yield from reader.accept("u")):
            if len((yield from reader.match(_HEX, 4))) < 4:
                return False
        elif not (yield from reader.accept(*'"\\/bfnrt')):
            return False


def _read_container(reader: Reader, is_object: bool, depth: int) -> Steps[bool]:
    end = "}" if is_object else "]"
    reader.at += 1
    if depth == MAX_DEPTH:
        return False
    yield from read_space(reader)
    if (yield from reader.accept(end)):
        return True
    while True:
        if is_object and not (yield from _read_key(reader)):
            return False
        if not (yield from read_value(reader, depth + 1)):
            return False
        yield from read_space(reader)
        if (yield from reader.accept(end)):
            return True
        if not (yield from reader.accept(",")):
            return False
        yield from read_space(reader)


def _read_key(reader: Reader) -> Steps[bool]:
    """Step over a key, its colon and the space after it."""
    if not (yield from read_string(reader)):
        return False
    yield from read_space(reader)
    if not (yield from reader.accept(":")):
        return False
    yield from read_space(reader)
    return True


def _read_number(reader: Reader) -> Steps[bool]:
    yield from reader.accept("-")
    if not (yield from reader.accept("0")) and not (yield from _read_digits(reader)):
        return False
    if (yield from reader.accept(".")) and not (yield from _read_digits(reader)):
        return False
    if (yield from reader.accept("e", "E")):
        yield from reader.accept("+", "-")
        return (yield from _read_digits(reader))
    return True


def _read_digits(reader: Reader) -> Steps[bool]:
    return bool((yield from reader.match(_DIGITS, _UNLIMITED)))
