"""What Ollama's API says about models: /api/tags, /api/show, /api/ps and /api/version."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from nextn.server.errors import ApiError, bad_field
from nextn.server.ollama_types import (
    Details,
    ModelEntry,
    ModelList,
    ModelPage,
    ShowBody,
    Version,
)
from nextn.server.operation import Call, Operation, json_response

if TYPE_CHECKING:
    from nextn.model import Model
    from nextn.server.models import LoadedModel
    from nextn.server.state import Server

_LATEST = ":latest"
_FOREVER = datetime(2318, 1, 1, tzinfo=UTC).timestamp()
"""When a model expires that never does; about what Ollama says."""


def ollama_shape(problem: ApiError) -> dict[str, Any]:
    """Ollama's: `{"error": "message"}`."""
    return {"error": problem.message}


def plain_name(server: Server, name: str) -> str:
    """A name without the tag that Ollama's clients put behind it."""
    known = {*server.models.specs, *(a for s in server.models.specs.values() for a in s.aliases)}
    return name.removesuffix(_LATEST) if name not in known else name


def timestamp(seconds: float) -> str:
    """A time as RFC 3339 has it.

    Args:
        seconds: since 1970.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def capabilities(model: Model) -> list[str]:
    """What a model can do, in Ollama's words."""
    if model.checkpoint.chat_template is None:
        return ["completion"]
    dialect = model.chat_encoder.dialect
    thinks = dialect.reasoning is not None or dialect.calls.always
    return ["completion", "tools", *(["thinking"] if thinks else [])]


def _details(model: Model) -> Details:
    tensors = model.checkpoint.tensors.values()
    formats = Counter[str]()
    for tensor in tensors:
        formats[tensor.block_type.name] += math.prod(tensor.shape)
    parameters = formats.total()
    family = model.checkpoint.architecture
    return Details(
        family=family,
        families=[family],
        parameter_size=f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else _millions(parameters),
        # Most of the parameters are in this format.
        quantization_level=formats.most_common(1)[0][0],
    )


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f}M"


def _entry(name: str, loaded: LoadedModel | None) -> ModelEntry:
    tag = name if ":" in name.rpartition("/")[2] else name + _LATEST
    entry = ModelEntry(
        name=tag,
        model=tag,
        digest=hashlib.sha256(name.encode()).hexdigest(),
        size=0 if loaded is None else loaded.model.checkpoint.file_bytes,
        details=Details() if loaded is None else _details(loaded.model),
    )
    entry.modified_at = timestamp(0 if loaded is None else _modified(loaded.model))
    return entry


def _modified(model: Model) -> float:
    return Path(model.checkpoint.path).stat().st_mtime


async def list_models(call: Call[None]) -> Response:
    """All models of the server."""
    models = call.server.models
    return json_response(
        ModelList(models=[_entry(name, models.loaded.get(name)) for name in models.specs])
    )


async def list_loaded(call: Call[None]) -> Response:
    """The models that are loaded."""
    entries = []
    for name, loaded in call.server.models.loaded.items():
        entry = _entry(name, loaded)
        idle = 0.0 if loaded.leases else time.monotonic() - loaded.used_at
        keep = loaded.keep_alive
        entry.expires_at = timestamp(_FOREVER if keep is None else time.time() + keep - idle)
        entry.size_vram = 0
        entry.context_length = loaded.model.context_length
        entries.append(entry)
    return json_response(ModelList(models=entries))


async def show_model(call: Call[ShowBody]) -> Response:
    """What a model is; it is loaded if it was not."""
    name = call.body.model or call.body.name
    if not name:
        raise bad_field("model", "missing; this field is required")
    with await call.server.models.acquire(plain_name(call.server, name)) as lease:
        model = lease.loaded.model
        page = ModelPage(
            modelfile=f"FROM {model.checkpoint.path.name}\n",
            parameters="",
            template=model.checkpoint.chat_template or "",
            details=_details(model),
            model_info=_model_info(model),
            capabilities=capabilities(model),
            modified_at=timestamp(_modified(model)),
        )
    return json_response(page)


def _model_info(model: Model) -> dict[str, Any]:
    """The metadata of the file, without long lists such as the vocabulary."""
    info: dict[str, Any] = {}
    for key, value in model.checkpoint.metadata.items():
        if isinstance(value, str | bool | int | float):
            info[key] = value
    info.pop("tokenizer.chat_template", None)
    info["general.parameter_count"] = sum(
        math.prod(tensor.shape) for tensor in model.checkpoint.tensors.values()
    )
    return info


async def show_version(call: Call[None]) -> Response:
    """The version of nextn."""
    import nextn

    return json_response(Version(version=nextn.__version__))


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/tags",
        handle=list_models,
        summary="List the models",
        answer=ModelList,
    ),
    Operation(
        method="GET",
        path="/api/ps",
        handle=list_loaded,
        summary="List the models that are loaded",
        answer=ModelList,
    ),
    Operation(
        method="POST",
        path="/api/show",
        handle=show_model,
        summary="Show a model",
        body=ShowBody,
        answer=ModelPage,
    ),
    Operation(
        method="GET",
        path="/api/version",
        handle=show_version,
        summary="Say the version",
        answer=Version,
    ),
)
