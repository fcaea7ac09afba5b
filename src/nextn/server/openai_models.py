"""OpenAI's /v1/models."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from nextn.server.operation import Call, Family, Operation, json_response
from nextn.server.state import Server


class ModelMeta(msgspec.Struct, kw_only=True):
    """What llama-server says about a loaded model.

    Attributes:
        n_vocab: tokens of the vocabulary.
        n_ctx: most tokens of a text.
        n_ctx_train: positions that the model was trained for.
        size: of the file in bytes.
    """

    n_vocab: int
    n_ctx: int
    n_ctx_train: int
    size: int


class ModelStatus(msgspec.Struct, kw_only=True):
    """Whether a model is loaded."""

    value: Literal["loaded", "loading", "unloaded"]


class ModelCard(msgspec.Struct, kw_only=True):
    """One model."""

    id: str
    created: int
    status: ModelStatus
    aliases: list[str]
    object: Literal["model"] = "model"
    owned_by: str = "nextn"
    meta: ModelMeta | UnsetType = UNSET


class ModelList(msgspec.Struct, kw_only=True):
    """The answer of /v1/models."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


def _card(server: Server, name: str) -> ModelCard:
    loaded = server.models.loaded.get(name)
    value: Literal["loaded", "loading", "unloaded"] = "unloaded"
    if loaded is not None:
        value = "loaded"
    elif server.models.is_loading(name):
        value = "loading"
    card = ModelCard(
        id=name,
        created=0 if loaded is None else int(loaded.loaded_at),
        status=ModelStatus(value=value),
        aliases=list(server.models.specs[name].aliases),
    )
    if loaded is not None:
        model = loaded.model
        card.meta = ModelMeta(
            n_vocab=model.executor.vocab_size,
            n_ctx=model.context_length,
            n_ctx_train=model.checkpoint.integer("{arch}.context_length", minimum=1),
            size=model.checkpoint.file_bytes,
        )
    return card


async def list_models(call: Call[None]) -> Response:
    """All models of the server."""
    cards = [_card(call.server, name) for name in call.server.models.specs]
    return json_response(ModelList(data=cards))


async def show_model(call: Call[None]) -> Response:
    """One model."""
    name: Any = call.request.path_params["model"]
    return json_response(_card(call.server, call.server.models.find(name).name))


FAMILY = Family(
    name="OpenAI models",
    prefixes=("/v1/",),
    operations=(
        Operation(
            method="GET",
            path="/v1/models",
            handle=list_models,
            summary="List the models",
            answer=ModelList,
        ),
        Operation(
            method="GET",
            path="/v1/models/{model:path}",
            handle=show_model,
            summary="Show a model",
            answer=ModelCard,
        ),
    ),
)
