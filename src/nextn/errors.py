"""The errors that nextn shows to its users.

Every message is one line that says what was wrong, where, and what to do about it. The command line
prints the message and ends with status 2; `--debug` adds the traceback. Anything that is not a
`NextnError` is a defect of nextn itself.
"""

from __future__ import annotations


class NextnError(Exception):
    """Base of every error that a user can cause or meet."""


_MOST_SHOWN = 80
_MOST_FIELD = 200


def shown(text: str) -> str:
    """Quote text from a file for a message: on one line, without control characters, and short."""
    if len(text) > _MOST_SHOWN:
        return f"{text[:_MOST_SHOWN]!r}... ({len(text)} characters)"
    return repr(text)


class FileFormatError(NextnError):
    """A model file whose bytes break the rules of its format.

    Args:
        path: the file.
        field: the header field, metadata key or tensor that is wrong.
        reason: what is wrong with it.
    """

    def __init__(self, path: object, field: str, reason: str) -> None:
        short = field if len(field) <= _MOST_FIELD else f"{field[:_MOST_FIELD]}..."
        super().__init__(f"{path}: {short}: {reason}")
        self.path = path
        self.field = field
        self.reason = reason


class SourceError(NextnError):
    """A model that cannot be found or fetched."""


class OutputError(NextnError):
    """A file that must not or cannot be written: it is an input, or there is no space for it."""


class UnsupportedModelError(NextnError):
    """An architecture, block format or feature that nextn does not know."""


class MemoryLimitError(NextnError):
    """A model or cache that does not fit in the memory of this machine."""


class TemplateError(NextnError):
    """A chat template that is broken, too slow, too large or not allowed to do what it tries."""


class RequestError(NextnError):
    """A request with impossible settings, or a prompt that does not fit.

    Args:
        message: what is wrong.
        field: the setting that is wrong, if it is one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class EngineError(NextnError):
    """A step that failed through no fault of the requests in it."""
