"""How long a client that left keeps its place, and that those who stay are not disturbed."""

import asyncio
import json
import time

from tests.load.program import Program
from tests.load.report import Report, milliseconds, percentile
from tests.load.wire import Connection

CHAT = "/v1/chat/completions"
LIMIT_S = 0.25  # beyond one pass
STEP_S = 0.002
PARTS = 20


async def leaving(program: Program, rounds: int, parallel: int) -> Report:
    """All places are taken by replies that do not end, whose clients leave one after the other."""
    report = Report()
    held: list[float] = []
    passes: list[float] = []
    body = await _endless(program)
    for _ in range(rounds):
        streams = [await _Stream.of(program, body) for _ in range(parallel)]
        report.expect(await _busy(program) == parallel, "not all places are taken")
        passes += [await stream.gap() for stream in streams]
        while streams:
            left_at = time.monotonic()
            await streams.pop().leave()
            while await _busy(program) > len(streams) and time.monotonic() < left_at + 10:
                await asyncio.sleep(STEP_S)
            held.append(time.monotonic() - left_at)
    report.counts["left"] = len(held)
    report.figures["a place is free after"] = milliseconds(held)
    report.figures["between two tokens"] = milliseconds(passes)
    limit = percentile(passes, 0.5) + LIMIT_S
    report.expect(percentile(held, 0.99) <= limit, f"p99 is above one pass and {1000 * LIMIT_S:.0f} ms")
    return report


class _Stream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, program: Program, body: bytes) -> "_Stream":
        reader, writer = await asyncio.open_connection("127.0.0.1", program.port, limit=1 << 22)
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)))
        writer.write(body)
        stream = cls(reader, writer)
        await reader.readuntil(b'"content":"')
        return stream

    async def gap(self) -> float:
        """Seconds from one part to the next, on average."""
        began = time.monotonic()
        for _ in range(PARTS):
            await self._reader.readuntil(b"data: ")
        return (time.monotonic() - began) / PARTS

    async def leave(self) -> None:
        self._writer.close()


async def _endless(program: Program) -> bytes:
    """A request whose reply fills the context: what would end it is never drawn."""
    async with Connection(program.port) as connection:
        ends = "<|im_end|><|endoftext|>"
        tokens = (await connection.post("/tokenize", {"content": ends})).json()["tokens"]
    return json.dumps(
        {
            "messages": [{"role": "user", "content": "Tell me a short story."}],
            "max_tokens": 900,
            "stream": True,
            "temperature": 1,
            "reasoning_effort": "none",
            "logit_bias": {str(token): -100 for token in tokens},
        }
    ).encode()


async def _busy(program: Program) -> int:
    return int((await program.metrics())["slots_busy"])
