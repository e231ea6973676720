"""Clients that write byte by byte and clients that read nothing, and how soon /health answers beside them."""

import asyncio
import http.client
import json
import socket
import threading
import time

from tests.load.dialects import DIALECTS, Question
from tests.load.program import Program
from tests.load.report import Report, milliseconds, percentile
from tests.load.wire import Answer, Connection

LIMIT_S = 0.25
BYTE_S = 0.05
QUESTION = Question(("What is the capital of Italy?",), 1, 8)
STALLED = {
    "messages": [{"role": "user", "content": "Tell me a short story."}],
    "max_tokens": 900,
    "stream": True,
    "logprobs": True,
    "top_logprobs": 20,
    "temperature": 1,
}


async def slow(program: Program, writers: int, readers: int) -> Report:
    report, times = Report(), list[float]()
    dialect = DIALECTS["chat"]
    body = json.dumps(dialect.body(QUESTION, False), separators=(",", ":")).encode()
    async with Connection(program.port) as connection:
        expected = dialect.read((await connection.ask("POST", dialect.path, body)).body, False)[0]
    stalled = [_reads_nothing(program.port) for _ in range(readers)]
    over = threading.Event()
    asking = threading.Thread(target=_ask_health, args=(program.port, over, times))
    asking.start()
    answers = await asyncio.gather(*(_write_slowly(program.port, dialect.path, body) for _ in range(writers)))
    over.set()
    await asyncio.to_thread(asking.join)
    for raw in stalled:
        raw.close()
    texts = [dialect.read(answer.body, False)[0] if answer.status == 200 else "" for answer in answers]
    report.counts |= {"slow writers": writers, "stalled readers": readers, "answered": sum(map(bool, texts))}
    report.counts["asked for /health"] = len(times)
    report.figures["/health"] = milliseconds(times)
    refused = sum(answer.status == 429 for answer in answers)
    report.counts["refused"] = refused
    report.expect(all(text == expected for text in texts if text), f"a slow writer was told not {expected!r}")
    report.expect(sum(map(bool, texts)) + refused == writers, "a slow writer has no answer")
    report.expect(percentile(times, 0.99) < LIMIT_S, "p99 of /health is above 250 ms")
    return report


def _reads_nothing(port: int) -> socket.socket:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.connect(("127.0.0.1", port))
    body = json.dumps(STALLED).encode()
    raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
    raw.sendall(body)
    return raw


async def _write_slowly(port: int, path: str, body: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    for byte in body:
        writer.write(bytes([byte]))
        await asyncio.sleep(BYTE_S)
    answer = await reader.read(-1)
    writer.close()
    head, _, told = answer.decode().partition("\r\n\r\n")
    return Answer(int(head.split()[1]) if head else 0, {}, told.encode(), is_whole=True)


def _ask_health(port: int, over: threading.Event, times: list[float]) -> None:
    """From a thread of its own, so that nothing here holds it up."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while not over.wait(0.02):
        began = time.monotonic()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append(time.monotonic() - began)
    connection.close()
