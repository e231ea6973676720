"""A client's connection: uvicorn's, with a limit on how long a request's head may take, on how many there are, a line
in the log for what is no request, and a way to end one whose client reads nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from qwen35_local.server.log import Record
from qwen35_local.server.service import Service


def connection_class(service: Service) -> type[H11Protocol]:
    """The protocol to give to uvicorn."""
    limits = service.limits

    class Connection(H11Protocol):
        def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
            super().__init__(config, server_state, {**app_state, "connection": self}, _loop)
            self._head_deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            self._await_head()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            if (before is None or before.response_complete) and self._head_deadline is None:
                self._await_head()  # the first bytes of a further request
            super().data_received(data)
            if self.cycle is not before:
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            super().send_400_response(msg)
            if self.cycle is not None and not self.cycle.response_complete:
                return  # within a request, which has its own line
            client = self.client[0] if self.client else "local"
            service.counters.requests[400] += 1
            service.log.write(Record(client, "-", "-", status=400, note="no request of HTTP/1.1").line())

        def abort(self) -> None:
            """Ends the connection without waiting for what the client has not read."""
            self.transport.abort()

        def _await_head(self) -> None:
            self._head_deadline = self.loop.call_later(limits.header_seconds, self.abort)

        def _stop_waiting(self) -> None:
            if self._head_deadline is not None:
                self._head_deadline.cancel()
                self._head_deadline = None

    return Connection
