"""What a chat template may use up: the limits, and the meter that enforces them.

A template comes with the model file, so it is untrusted code. Time alone cannot be watched from
outside: one expression such as `'a' * 10**9` runs in C and cannot be interrupted, and a list that
holds a list twice, which holds a list twice, and so on, prints itself exponentially. Therefore
every operation of a template goes through checks *before* it runs: none may build a large value or
walk a huge structure, all memory is counted, and the clock is read between them. This needs no
signal, process or extra thread, so that it works from any thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateRuntimeError
from jinja2.utils import Namespace

MAX_TEMPLATE = 64 * 1024
"""Longest template, in characters; the longest in use are near 20,000."""

MAX_TEMPLATE_NODES = 10_000
"""Most nodes in the syntax tree of a template, which takes time to compile; 1,400 are in use."""

MAX_SECONDS = 2.0
"""Longest time of one rendering."""

MAX_TEXT = 4 * 1024 * 1024
"""Longest output, and longest value that a template may build on the way, in characters."""

MAX_BYTES = 128 * 1024 * 1024
"""Memory of all the values that one rendering makes, counted as if none were ever freed."""

MAX_STEPS = 1_000_000
"""Most steps of loops, calls and outputs together."""

MAX_NODES = 500_000
"""Most values inside a structure that is printed, compared, sorted or written as JSON."""

MAX_DEPTH = 100
"""Deepest nesting of such a structure."""

MAX_INTEGER_BITS = 4096
"""Longest integer."""

MAX_ARGUMENT = 100_000
"""Largest number given to a filter, a method or `range`."""

MAX_SEARCH = 1 << 30
"""Largest product of the lengths of two texts in methods that take time in proportion to it."""


class LimitError(TemplateRuntimeError):
    """A template that reached a limit."""


class Meter:
    """Counts what one rendering uses up.

    Args:
        seconds: time allowed from now on.
    """

    __slots__ = ("_bytes", "_deadline", "_seconds", "_steps")

    def __init__(self, seconds: float = MAX_SECONDS) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._steps = MAX_STEPS
        self._bytes = MAX_BYTES

    def step(self) -> None:
        """Count one step of a loop, one call or one operation on a structure."""
        self._steps -= 1
        if self._steps < 0:
            raise LimitError(f"takes more than {MAX_STEPS} steps")
        if time.monotonic() > self._deadline:
            raise LimitError(f"ran for more than {self._seconds:g} s")

    def charge(self, size: int) -> None:
        """Count `size` bytes of memory."""
        self._bytes -= size
        if self._bytes < 0:
            raise LimitError(f"uses more than {MAX_BYTES >> 20} MiB of memory")


_METER: ContextVar[Meter] = ContextVar("nextn_template_meter")


def meter() -> Meter:
    """Return the meter of the rendering that runs in this thread."""
    return _METER.get()


@contextmanager
def metered(seconds: float = MAX_SECONDS) -> Iterator[None]:
    """Run a block, a rendering or a compilation, under a meter of its own."""
    token = _METER.set(Meter(seconds))
    try:
        yield
    finally:
        _METER.reset(token)


def check_length(characters: int) -> None:
    """Refuse a text (or list) of so many characters (or items) before it is built."""
    if characters > MAX_TEXT:
        raise LimitError(f"builds a value of more than {MAX_TEXT} characters or items")


def check_argument(value: object) -> None:
    """Refuse a number that would ask a filter or method for endless work."""
    if isinstance(value, int) and not -MAX_ARGUMENT <= value <= MAX_ARGUMENT:
        raise LimitError(f"passes a number beyond {MAX_ARGUMENT}")


def check_bits(bits: int) -> None:
    """Refuse an integer of so many bits before it is computed."""
    if bits > MAX_INTEGER_BITS:
        raise LimitError(f"computes an integer of more than {MAX_INTEGER_BITS} bits")


class Weight(NamedTuple):
    """The size of a value as if it were printed: parts that it holds twice count twice."""

    characters: int
    nodes: int
    depth: int

    @property
    def printed(self) -> int:
        """About how many characters the value has when printed."""
        return self.characters + 4 * self.nodes


def weigh(value: Any) -> Weight:
    """Return the size of a value.

    Raises:
        LimitError: it is too large or too deep to be printed, compared or sorted.
    """
    if isinstance(value, str):
        return Weight(len(value), 1, 0)
    if not _is_structure(value):
        return Weight(1, 1, 0)
    watch = meter()
    nodes = characters = deepest = 0
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        structure, depth = pending.pop()
        watch.step()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            raise LimitError(f"nests values more than {MAX_DEPTH} deep")
        for item in _parts(structure):
            nodes += 1
            if isinstance(item, str):
                characters += len(item)
            elif _is_structure(item):
                pending.append((item, depth + 1))
        if nodes > MAX_NODES or characters > MAX_TEXT:
            raise LimitError(
                f"handles a structure of more than {MAX_NODES} values or {MAX_TEXT} characters"
            )
    return Weight(characters, nodes, deepest)


_STRUCTURES: tuple[type, ...] = (
    list,
    tuple,
    dict,
    Namespace,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


def _is_structure(value: object) -> bool:
    return isinstance(value, _STRUCTURES)


def _parts(structure: Any) -> Iterable[Any]:
    if isinstance(structure, Namespace):
        structure = object.__getattribute__(structure, "_Namespace__attrs")
    if isinstance(structure, Mapping):
        return [*structure.keys(), *structure.values()]
    items: Iterable[Any] = structure
    return items


def checked(value: Any) -> Any:
    """Count a value that an operation just made, and return it; iterators are metered too."""
    if isinstance(value, str):
        check_length(len(value))
        meter().charge(sys.getsizeof(value))
    elif isinstance(value, int):
        check_bits(value.bit_length())
    elif isinstance(value, list | tuple | dict):
        meter().charge(sys.getsizeof(value))
    elif isinstance(value, Iterator):
        return _metered_steps(value)
    return value


def _metered_steps(items: Iterable[Any]) -> Iterator[Any]:
    watch = meter()
    for item in items:
        watch.step()
        yield item


class _MeteredLoop:
    """The items of a loop, whose number is known."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return _metered_steps(self._items)

    def __len__(self) -> int:
        return len(self._items)


def steps(items: Any) -> Any:
    """Return `items` such that each step of a loop over them is counted."""
    if isinstance(items, Sized):
        return _MeteredLoop(items)
    return _metered_steps(iter(items))


def collect(items: Any) -> list[Any]:
    """Return the items of any iterable as a list, counted before each one is kept."""
    return list(_metered_steps(iter(items)))
