"""The bytes of one HTTP exchange: a body read under limits, answers written to clients that may not read them."""

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.types import Receive, Scope, Send

from qwen35_local.server.errors import RETRY_SECONDS, TWO_LENGTHS, Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.limits import Limits
from qwen35_local.server.service import Service

JSON = "application/json"


class Gone(Exception):
    """The client is no longer there, or does not read."""


async def read_body(scope: Scope, receive: Receive, service: Service) -> bytes:
    """Raises Refused when it is too large or comes too slowly, Gone when the client leaves."""
    limits = service.limits
    headers = dict(scope["headers"])
    if int(headers.get(b"content-length", b"0")) > limits.body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                piece = message.get("body", b"")
                service.receiving_bytes += len(piece)
                body += piece
                if len(body) > limits.body_bytes:
                    raise _too_large(limits)
                if service.receiving_bytes > limits.all_bodies_bytes:
                    raise Refused(503, "too much is being received at once.", retry_after=RETRY_SECONDS)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {limits.body_seconds:g} seconds.") from None
    finally:
        service.receiving_bytes -= len(body)


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the body is larger than {limits.body_bytes >> 20} MiB.", code="request_too_large")


class Writer:
    """Writes one response. A client that reads nothing for `stall_seconds` is cut off."""

    def __init__(self, scope: Scope, send: Send, limits: Limits) -> None:
        self._scope = scope
        self._send = send
        self._stall_seconds = limits.stall_seconds
        self.has_started = False

    async def start(self, status: int, media_type: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        fixed = [(b"content-type", media_type.encode()), (b"cache-control", b"no-store")]
        self.has_started = True
        await self._write({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        if data or is_last:
            await self._write({"type": "http.response.body", "body": data, "more_body": not is_last})

    async def whole(
        self, status: int, body: bytes, media_type: str = JSON, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        await self.start(status, media_type, [(b"content-length", b"%d" % len(body)), *headers])
        await self.write(body, is_last=True)

    async def refuse(self, refused: Refused, body: Any) -> None:
        """An error in one piece. A body that was not read to its end ends the connection."""
        headers = []
        if refused.retry_after is not None:
            headers.append((b"retry-after", b"%d" % refused.retry_after))
        if refused.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if refused.status in (408, 413, 503) or refused.code == TWO_LENGTHS:
            headers.append((b"connection", b"close"))
        await self.whole(refused.status, encoded(body), headers=headers)

    async def _write(self, message: dict[str, Any]) -> None:
        """Raises Gone."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._send(message)
        except TimeoutError:
            connection = self._scope.get("state", {}).get("connection")
            if connection is not None:
                connection.abort()
            raise Gone from None
