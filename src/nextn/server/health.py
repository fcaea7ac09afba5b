"""Whether the server is ready, as llama-server says it."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.responses import Response

from nextn.server.errors import ApiError
from nextn.server.operation import Call, Family, Operation, json_response


class Health(msgspec.Struct, kw_only=True):
    """The answer of /health."""

    status: Literal["ok"] = "ok"


async def show_health(call: Call[None]) -> Response:
    """200 when requests are accepted."""
    if not call.server.models.started:
        raise ApiError(503, "Loading model", code="unavailable_error", headers={"Retry-After": "5"})
    return json_response(Health())


FAMILY = Family(
    name="Health",
    operations=tuple(
        Operation(
            method="GET",
            path=path,
            handle=show_health,
            summary="Say whether the server is ready",
            answer=Health,
            public=True,
        )
        for path in ("/health", "/v1/health")
    ),
)
