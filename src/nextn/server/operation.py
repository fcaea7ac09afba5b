"""What an API family consists of: its operations, and what is common to all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from nextn.server.errors import ApiError, ErrorShape, openai_shape

if TYPE_CHECKING:
    from nextn.server.state import Server

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """One request to an operation.

    Attributes:
        server: what all requests share.
        body: the decoded body; None if the operation has none.
        request: the HTTP request.
    """

    server: Server
    body: B
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        method: "GET" or "POST".
        path: such as "/v1/models/{model:path}", in Starlette's form.
        handle: answers a call; what it raises becomes an answer in the family's shape.
        summary: one line for the OpenAPI document.
        body: the type of the JSON body; None if there is none.
        answer: the type of the JSON answer; None if it is not JSON.
        event: the type of the events of a streamed answer; None if it is never streamed.
        event_type: media type of a streamed answer.
        content_type: media type of an answer that is no JSON.
        public: whether it is answered without a key.
    """

    method: str
    path: str
    handle: Callable[[Call[Any]], Awaitable[Response]]
    summary: str
    body: Any = None
    answer: Any = None
    event: Any = None
    event_type: str = "text/event-stream"
    content_type: str = "text/plain"
    public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The operations of one API.

    Attributes:
        name: for the OpenAPI document.
        operations: all of them.
        prefixes: paths that begin like this belong to the family even if there is no such
            operation, so that errors there have its shape.
        error_shape: what its errors look like.
        setting_names: what the API calls settings of nextn, where it has another name for one.
    """

    name: str
    operations: tuple[Operation, ...]
    prefixes: tuple[str, ...] = ()
    error_shape: ErrorShape = openai_shape
    setting_names: dict[str, str] = field(default_factory=dict)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer of a struct, or of anything that msgspec encodes."""
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers=headers
    )


def decode_body(data: bytes, kind: type[B]) -> B:
    """Decode a JSON body strictly.

    Raises:
        ApiError: it is no JSON, or a field has the wrong type or is missing; named by its path.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the body is no valid JSON: {reason}", code="invalid_json") from error


def _invalid(message: str) -> ApiError:
    """From msgspec's "Expected `int`, got `str` - at `$.messages[0].role`"."""
    reason, _, place = message.partition(" - at `")
    field = place.removesuffix("`").removeprefix("key in ").removeprefix("$").removeprefix(".")
    reason = reason[:1].lower() + reason[1:]
    if reason.startswith("object missing required field"):
        missing = reason.rpartition(" ")[2].strip("`")
        field = f"{field}.{missing}" if field else missing
        reason = "missing; this field is required"
    if not field:
        return ApiError(400, f"the body: {reason}", code="invalid_type")
    return ApiError(400, f"{field}: {reason}", field=field, code="invalid_type")
