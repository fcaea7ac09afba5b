"""JSON from strangers: bounded, without repeated keys, and with one clear error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeAlias

from nextn.errors import FileFormatError, SourceError, shown

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class _RepeatedKeyError(ValueError):
    """An object that has a key twice."""


def parse_object(path: Path, field: str, content: bytes) -> JsonObject:
    """Parse a JSON object.

    Args:
        path: named in errors.
        field: what the text is, for errors.
        content: the text, in UTF-8.

    Raises:
        FileFormatError: not UTF-8, not JSON, not an object, nested too deeply, or a key that occurs
            twice in one object: readers disagree about which one counts.
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise FileFormatError(path, field, f"is not valid UTF-8 (byte {error.start})") from None
    except _RepeatedKeyError as error:
        raise FileFormatError(path, field, f"the key {error} occurs twice") from None
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON: {error.msg} (character {error.pos})"
        raise FileFormatError(path, field, reason) from None
    except RecursionError:
        raise FileFormatError(path, field, "is nested too deeply") from None
    except ValueError:
        # Python refuses to convert integers of thousands of digits.
        raise FileFormatError(path, field, "holds a number with too many digits") from None
    if not isinstance(value, dict):
        raise FileFormatError(path, field, "is not a JSON object")
    return value


def read_object(path: Path, *, most: int) -> JsonObject:
    """Read a file that holds a JSON object.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        SourceError: it cannot be read.
        FileFormatError: it is too large, or as `parse_object`.
    """
    return parse_object(path, "JSON", read_bounded(path, most=most))


def read_bounded(path: Path, *, most: int) -> bytes:
    """Read a file of at most `most` bytes.

    Raises:
        SourceError: it cannot be read.
        FileFormatError: it is larger.
    """
    try:
        # Asked before opening: to open a named pipe would wait for its writer.
        if path.exists() and not path.is_file():
            raise SourceError(f"{path}: is not a file")
        with path.open("rb") as file:
            # Reading takes memory for as many bytes as are asked for.
            content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise FileFormatError(path, "size", f"more than {most} bytes")
    return content


def _unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedKeyError(shown(key))
            seen.add(key)
    return found
