"""The document at /openapi.json is valid, complete, and true for generated requests."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nextn.server.app import FAMILIES
from tests.server.conftest import RunningServer


@pytest.fixture(scope="module")
def document(server: RunningServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json").json()
    return found


def test_every_operation_is_documented(document: dict[str, Any]) -> None:
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    served = {
        (operation.method, operation.path.replace(":path", ""))
        for family in FAMILIES
        for operation in family.operations
    }
    assert documented == served


def test_generated_requests_are_answered_as_documented(
    server: RunningServer, document: dict[str, Any]
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    cases = [result.ok().as_strategy() for result in schema.get_all_operations()]
    assert len(cases) > 10

    with httpx.Client(base_url=server.url, timeout=120) as client:

        @settings(
            max_examples=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        )
        @given(st.one_of(cases))
        def check(case: Any) -> None:
            if isinstance(case.body, dict):
                # Long texts would take long, and show nothing more.
                limits = ("max_tokens", "max_completion_tokens", "n_predict", "n", "best_of")
                for name in limits:
                    if case.body.get(name) is not None:
                        case.body[name] = max(-1, min(case.body[name], 3))
                case.body.setdefault("max_tokens", 3)
            response = case.call(base_url=server.url, session=None)
            assert response.status_code < 500, (case.method, case.path, case.body, response.text)

        check()
        assert client.get("/health").status_code == 200
