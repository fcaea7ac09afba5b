"""What is wrong with a request, and the shape in which OpenAI's API says so.

Each API family has a shape of its own, a function from `ApiError` to a JSON value.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from nextn.errors import (
    MemoryLimitError,
    NextnError,
    RequestError,
    TemplateError,
    UnsupportedModelError,
)
from nextn.sampling import ConstraintError
from nextn.sampling.sampler import NoTokenError

_log = logging.getLogger("nextn.server")


class ApiError(Exception):
    """Why a request is not answered.

    Args:
        status: the HTTP status.
        message: one line: what is wrong, where, and what to do.
        field: the field of the body that is wrong, if it is one.
        code: a short name for programs, such as "model_not_found".
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.code = code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's type of error."""
        return _KINDS.get(self.status, "server_error" if self.status >= 500 else _INVALID)


_INVALID = "invalid_request_error"
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}

ErrorShape: TypeAlias = Callable[[ApiError], dict[str, Any]]


def openai_shape(problem: ApiError) -> dict[str, Any]:
    """OpenAI's: `{"error": {"message", "type", "param", "code"}}`."""
    return {
        "error": {
            "message": problem.message,
            "type": problem.kind,
            "param": problem.field,
            "code": problem.code,
        }
    }


def bad_field(field: str, reason: str) -> ApiError:
    """A field of the body that cannot be taken.

    Args:
        field: its path, such as "messages[0].content".
        reason: what is wrong, and what is allowed.
    """
    return ApiError(400, f"{field}: {reason}", field=field, code="invalid_value")


def to_api_error(error: Exception, names: Mapping[str, str] | None = None) -> ApiError:
    """The problem that an exception means for the one who asked.

    Args:
        error: what was raised.
        names: what the API calls the settings of nextn, where it has another name for one.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestError):
        return _request_error(error, names or {})
    if isinstance(error, TemplateError | UnsupportedModelError | NoTokenError | ConstraintError):
        return ApiError(400, str(error))
    if isinstance(error, MemoryLimitError):
        return ApiError(503, str(error), code="out_of_memory", headers={"Retry-After": "10"})
    if isinstance(error, NextnError):
        return ApiError(500, str(error))
    # An answer that has begun cannot say it in its status, so that it is logged here for all.
    _log.error("a request failed", exc_info=error)
    return ApiError(500, "internal error; see the log of the server")


def _request_error(error: RequestError, names: Mapping[str, str]) -> ApiError:
    field = error.field
    message = str(error)
    # Clients look for this code to shorten their conversation.
    code = "context_length_exceeded" if "but the context holds" in message else "invalid_value"
    if field is not None and field in names:
        name = names[field]
        if message.startswith(field):
            message = name + message.removeprefix(field)
        else:
            message = f"{name}: {message}"
        field = name
    return ApiError(400, message, field=field, code=code)


@contextmanager
def named_as(names: Mapping[str, str]) -> Iterator[None]:
    """Within it, errors call fields of the chat code as an API does.

    Args:
        names: the API's name by the field's own; "[*]" stands for any index.
    """
    try:
        yield
    except (ApiError, RequestError) as error:
        problem = to_api_error(error, names)
        field = problem.field
        if field is None:
            raise problem from error
        places = iter(_INDEX.findall(field))
        name = names.get(_INDEX.sub("[*]", field), names.get(field))
        if name is not None:
            name = re.sub(r"\[\*\]", lambda _: next(places, ""), name)
            problem.message = problem.message.replace(field, name, 1)
            problem.field = name
        raise problem from error


_INDEX = re.compile(r"\[\d+\]")
