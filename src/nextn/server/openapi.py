"""The OpenAPI document, made from the operations and their types, so that it is true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from nextn.server.operation import Family, Operation

_VARIABLE = re.compile(r"\{(\w+)(?::\w+)?\}")


def openapi_document(families: Sequence[Family], version: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1, as a JSON value.

    Args:
        families: all APIs of the server.
        version: of nextn.
    """
    operations = [operation for family in families for operation in family.operations]
    types = [each for operation in operations for each in _types(operation)]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    # A type may be there several times; its schema is the same.
    schema_of = {id(each): schema for each, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for family in families:
        for operation in family.operations:
            path = _VARIABLE.sub(r"{\1}", operation.path)
            item = paths.setdefault(path, {})
            item[operation.method.lower()] = _operation(family, operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nextn", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(operation: Operation) -> Iterable[Any]:
    return (each for each in (operation.body, operation.answer, operation.event) if each)


def _operation(
    family: Family, operation: Operation, schema_of: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": schema_of[id(operation.answer)]}
    if operation.event is not None:
        content[operation.event_type] = {"schema": schema_of[id(operation.event)]}
    if not content:
        content[operation.content_type] = {}
    result: dict[str, Any] = {
        "tags": [family.name],
        "summary": operation.summary,
        "operationId": f"{operation.handle.__name__}_{_words(operation.path)}",
        "responses": {
            "200": {"description": "The answer", "content": content},
            "default": {
                "description": "What is wrong with the request",
                "content": {"application/json": {}},
            },
        },
    }
    if not operation.public:
        # Only a server that was started with keys asks for one.
        result["security"] = [{}, {"key": []}]
    variables = _VARIABLE.findall(operation.path)
    if variables:
        result["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in variables
        ]
    if operation.body is not None:
        result["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[id(operation.body)]}},
        }
    return result


def _words(path: str) -> str:
    return "_".join(re.findall(r"\w+", path))
