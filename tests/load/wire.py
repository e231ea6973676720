"""A client that sees and does what libraries do not: it leaves in the middle, and says how often."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Self

import h11

LOCAL = "127.0.0.1"


@dataclass
class Answer:
    """`is_whole`: the body came to its end."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection to a server of this machine, kept open from request to request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._http = h11.Connection(h11.CLIENT)
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    async def post(self, path: str, body: Any, leave_after: float | None = None) -> Answer:
        return await self.ask("POST", path, json.dumps(body).encode(), leave_after)

    async def ask(self, method: str, path: str, body: bytes = b"", leave_after: float | None = None) -> Answer:
        """The answer, or what came of it in the first `leave_after` seconds, after which the connection is closed."""
        reader, writer = await self._opened()
        headers = [("Host", "localhost"), ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=path, headers=headers)
        writer.write(b"".join(self._http.send(e) or b"" for e in (request, h11.Data(data=body), h11.EndOfMessage())))
        answer = Answer()
        try:
            async with asyncio.timeout(leave_after):
                await writer.drain()
                await self._receive(reader, answer)
        except TimeoutError:
            self.close()
        return answer

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._writer is None or self._http.our_state is not h11.IDLE:
            self.close()
            self._http = h11.Connection(h11.CLIENT)
            self._reader, self._writer = await asyncio.open_connection(LOCAL, self._port)
        return self._reader, self._writer

    async def _receive(self, reader: asyncio.StreamReader, answer: Answer) -> None:
        while not answer.is_whole:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await reader.read(1 << 16))
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                answer.is_whole = True
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
