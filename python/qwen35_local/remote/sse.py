"""A stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): the data of each."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator

from qwen35_local.errors import RemoteError

MOST_EVENT_BYTES = 8 << 20
MOST_BYTES = 256 << 20
"""Of a whole answer; one of 32,768 tokens with logprobs is below it."""


class EventReader:
    """Bytes in, as they come; the data of the events that they complete out."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._line = bytearray()
        self._data: list[bytes] = []
        self._n_data = 0  # bytes that the lines of the event take
        self._n_bytes = 0

    def feed(self, piece: bytes) -> list[str]:
        """Raises RemoteError for more than is taken."""
        self._n_bytes += len(piece)
        if self._n_bytes > MOST_BYTES:
            raise RemoteError(f"{self._server} sent more than {MOST_BYTES >> 20} MiB; the reply is given up.")
        *lines, rest = piece.split(b"\n")
        events: list[str] = []
        for line in lines:
            self._line += line
            self._end_line(events)
        self._line += rest
        if len(self._line) + self._n_data > MOST_EVENT_BYTES:
            raise RemoteError(f"{self._server} sent an event of more than {MOST_EVENT_BYTES >> 20} MiB.")
        return events

    def _end_line(self, events: list[str]) -> None:
        line = bytes(self._line).removesuffix(b"\r")
        self._line.clear()
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._n_data += sys.getsizeof(line)
        elif not line and self._data:
            events.append(b"\n".join(self._data).decode("utf-8", "replace"))
            self._data.clear()
            self._n_data = 0


async def events(pieces: AsyncIterator[bytes], server: str) -> AsyncGenerator[str, None]:
    """The data of every event until "[DONE]" or the end; what an end cuts is left out. Raises RemoteError."""
    reader = EventReader(server)
    async for piece in pieces:
        for data in reader.feed(piece):
            if data.strip() == "[DONE]":
                return
            yield data
