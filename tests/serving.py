"""A server in this process, on a socket of its own."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from qwen35_local.engine.engine import Engine
from qwen35_local.server.limits import Limits
from qwen35_local.server.log import Log
from qwen35_local.server.run import Server, listen
from qwen35_local.server.security import Guard
from qwen35_local.server.service import Service


@dataclass
class Served:
    """A running server: where it is, what it uses, and what it logged."""

    url: str
    service: Service
    lines: list[str]
    stop: Callable[[], None]

    def mark(self) -> int:
        """How many lines the log has with those of all that was answered before: a line follows its answer, and comes
        before whatever is asked after it."""
        path = f"/mark-{len(self.lines)}"
        httpx.get(self.url + path)
        deadline = time.monotonic() + 10
        while not any(path in line for line in self.lines):
            assert time.monotonic() < deadline, "the request has no line in the log"
            time.sleep(0.001)
        return len(self.lines)

    def lines_since(self, mark: int) -> list[str]:
        return self.lines[mark : self.mark() - 1]


@contextmanager
def served(engine: Engine, limits: Limits | None = None, **guard: object) -> Iterator[Served]:
    """A server in a thread, until the end of this."""
    lines: list[str] = []
    service = Service(engine, "demo", limits or Limits(grace_seconds=1), Log(lines.append))
    opened = listen("127.0.0.1", 0)
    server = Server(service, Guard("127.0.0.1", **guard), opened)  # type: ignore[arg-type]
    started = threading.Event()

    def work() -> None:
        asyncio.run(server.serve(started.set))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield Served(f"http://127.0.0.1:{opened.getsockname()[1]}", service, lines, server.stop)
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
