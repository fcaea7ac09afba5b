"""What all requests of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nextn.server.errors import ApiError
from nextn.server.journal import note_text
from nextn.server.metrics import Metrics
from nextn.server.models import RETRY_SECONDS, LoadedModel, Models
from nextn.server.security import Security

if TYPE_CHECKING:
    from nextn.server.writing import ServedText


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server behaves.

    Attributes:
        defaults: sampling settings for requests that do not say; names of `SamplingParams`.
        draft: the draft setting of requests that do not say.
        ping_seconds: a streamed answer without anything new for so long gets a ping.
        max_body: largest body in bytes.
        body_seconds: longest time that a body takes to arrive.
        write_seconds: longest time that a client takes nothing of an answer; then it is left.
        max_choices: most texts (prompts times `n`) of a request.
        max_stops: most stop strings of a request.
        max_stop_length: longest stop string in characters.
        max_waiting: most texts that wait; further ones are refused.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    draft: str | int = "auto"
    ping_seconds: float = 15.0
    max_body: int = 8 << 20
    body_seconds: float = 60.0
    write_seconds: float = 60.0
    max_choices: int = 64
    max_stops: int = 16
    max_stop_length: int = 1024
    max_waiting: int = 256


class Server:
    """What all requests share.

    Args:
        models: the models by name.
        settings: how the server behaves.
        security: who may ask; by default everybody on this machine.

    Attributes:
        metrics: counts of texts that have ended.
    """

    def __init__(
        self, *, models: Models, settings: ServerSettings, security: Security | None = None
    ) -> None:
        self.models = models
        self.settings = settings
        self.security = Security() if security is None else security
        self.metrics = Metrics()

    def check_queue(self, loaded: LoadedModel, count: int) -> None:
        """Refuse `count` further texts if too many would wait.

        Raises:
            ApiError: 503.
        """
        engine = loaded.engine
        room = engine.max_sequences + self.settings.max_waiting
        if engine.running + engine.waiting + count > room:
            raise ApiError(
                503,
                f"the server is busy: it writes {engine.running} texts, and {engine.waiting} wait; "
                "try again later",
                code="server_busy",
                headers={"Retry-After": RETRY_SECONDS},
            )

    def text_ended(self, text: ServedText) -> None:
        """Count a text that was finished, or closed before."""
        stream = text.stream
        reason = stream.finish_reason or "abort"
        self.metrics.add(text.loaded.name, stream.statistics, reason)
        note_text(text.loaded.name, stream.statistics, reason)
