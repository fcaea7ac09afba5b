"""What all requests of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextn.server.models import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server behaves.

    Attributes:
        defaults: sampling settings for requests that do not say; names of `SamplingParams`.
        draft: the draft setting of requests that do not say.
        ping_seconds: a streamed answer without anything new for so long gets a ping.
        max_body: largest body in bytes.
        max_choices: most texts (prompts times `n`) of a request.
        max_stops: most stop strings of a request.
        max_stop_length: longest stop string in characters.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    draft: str | int = "auto"
    ping_seconds: float = 15.0
    max_body: int = 8 << 20
    max_choices: int = 64
    max_stops: int = 16
    max_stop_length: int = 1024


@dataclass(slots=True)
class Server:
    """See the attributes.

    Attributes:
        models: the models by name.
        settings: how the server behaves.
    """

    models: Models
    settings: ServerSettings
