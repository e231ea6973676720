"""What a dialect is: how its requests are read, and how it writes what the engine tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Completion, Done, Event, Request
from qwen35_local.server.body import Body
from qwen35_local.server.errors import Refused
from qwen35_local.server.service import Service

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON_LINES = "application/x-ndjson"


class Encoder(Protocol):
    """Writes one answer. Of a stream: `start`, then an `event` for everything told (Done of each reply too), with
    `ping` where it would be silent for long; last `end`, or `failure`. An answer in one piece: `whole`."""

    media_type: str

    def start(self) -> bytes: ...
    def event(self, event: Event) -> bytes: ...
    def ping(self, reading: Reading | None) -> bytes:
        """`reading`: how much of the prompt has been read, until the first token."""
        ...

    def end(self) -> bytes: ...
    def failure(self, refused: Refused) -> bytes: ...
    def whole(self, replies: Sequence[Done]) -> bytes:
        """`replies`: in the order of their `choice`."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a request asks of the engine: several prompts have their choices one after the other. `user`: whose it is,
    in the client's own words. `reports_reading`: tells the encoder of every part of the prompt that was read. `param`:
    the field that an error of the engine is about. `id`: of the answer, if it can be asked for while it is written."""

    requests: tuple[Request | Completion, ...]
    encoder: Encoder
    streams: bool
    user: str = ""
    reports_reading: bool = False
    param: str = "messages"
    id: str = ""


class Dialect(Protocol):
    """Reads a body into what is asked, or into an answer that needs no reply of the engine. Raises Refused, or an error
    of this package."""

    def __call__(self, body: Body, service: Service) -> Asked | bytes: ...


ErrorBody: TypeAlias = dict[str, Any]


class ErrorShape(Protocol):
    """The body of an error."""

    def __call__(self, refused: Refused) -> ErrorBody: ...
