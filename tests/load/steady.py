"""Many small requests: memory, descriptors and threads stay as they are."""

import asyncio
import time
from collections.abc import Iterator

from tests.load.program import Program, Use
from tests.load.report import Report
from tests.load.wire import Connection

CHAT = "/v1/chat/completions"
HI = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "reasoning_effort": "none"}
GROWTH = 16 << 20  # bytes, of memory
KINDS = (
    ("GET", "/health", b""),
    ("POST", "/tokenize", b'{"content": "What is the capital of Italy?"}'),
    ("POST", CHAT, b'{"messages": 5}'),
    ("GET", "/v1/models", b""),
    ("GET", "/nothing", b""),
    ("POST", "/v1/messages/count_tokens", b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}'),
)
EVERY = 20  # a reply


async def steady(program: Program, requests: int, clients: int, seconds: float) -> Report:
    """Ends after so many requests, or after so long."""
    report, uses, deadline = Report(), list[Use](), time.monotonic() + seconds
    for part in range(6):  # the first warms up
        numbers = iter(range(part * requests // 6, (part + 1) * requests // 6))
        until = deadline - seconds * (5 - part) / 6
        await asyncio.gather(*(_client(program, numbers, until, report) for _ in range(clients)))
        await asyncio.sleep(0.5)
        uses.append(program.use())
    first, last = uses[0], uses[-1]
    report.figures["memory (MiB)"] = " ".join(f"{use.memory / 2**20:.1f}" for use in uses)
    report.figures["descriptors"] = " ".join(str(use.descriptors) for use in uses)
    report.figures["threads"] = " ".join(str(use.threads) for use in uses)
    report.expect(last.memory - first.memory < GROWTH, "memory grows")
    report.expect(last.descriptors <= first.descriptors + 2, "descriptors stay open")
    report.expect(last.threads <= first.threads + 2, "threads stay")
    return report


async def _client(program: Program, numbers: Iterator[int], until: float, report: Report) -> None:
    async with Connection(program.port) as connection:
        for number in numbers:
            if time.monotonic() > until:
                return
            if number % EVERY == 0:
                answer = await connection.post(CHAT, HI | {"seed": number})
            else:
                answer = await connection.ask(*KINDS[number % len(KINDS)])
            report.counts["requests"] += 1
            report.expect(answer.status in (200, 400, 404), f"{answer.status}: {answer.body[:200]!r}")
