"""The server from its socket to its end."""

import asyncio
import errno
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from qwen35_local.errors import InputError
from qwen35_local.server.app import application
from qwen35_local.server.connection import connection_class
from qwen35_local.server.front import closing
from qwen35_local.server.security import Guard
from qwen35_local.server.service import Service

_BACKLOG = 512
_HEAD_BYTES = 64 << 10


def listen(host: str, port: int) -> socket.socket:
    """A socket to listen on; port 0 takes a free one. Raises InputError when that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"--host {host}: no address of this machine ({error.strerror or error}).") from None
    try:
        if os.name == "posix":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} is taken by another program; give another one with --port, or 0 for any that is free."
            ) from None
        raise InputError(f"cannot listen on {host}, port {port} ({error.strerror or error}).") from None
    return opened


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """The socket of `listen_at`, which is gone afterwards."""
    with listen_at(path) as opened:
        try:
            yield opened
        finally:
            path.unlink(missing_ok=True)


def listen_at(path: Path) -> socket.socket:
    """A unix socket that only this user may open; one that nobody listens on is replaced. Raises InputError."""
    if not hasattr(socket, "AF_UNIX"):
        raise InputError("--unix-socket: this system has none; leave it out.")
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_socket(path) and not _answers(path):
            path.unlink()
        before = os.umask(0o177)
        try:
            opened.bind(str(path))
        finally:
            os.umask(before)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        reason = error.strerror or error
        if error.errno == errno.EADDRINUSE:
            reason = "another program has it" if _is_socket(path) else "there is a file that is no socket"
        raise InputError(f"--unix-socket {path}: cannot listen there ({reason}).") from None
    return opened


def _is_socket(path: Path) -> bool:
    return path.exists() and stat.S_ISSOCK(path.stat().st_mode)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        try:
            other.connect(str(path))
        except OSError:
            return False
    return True


class Server:
    """uvicorn, with an end in order: new requests are refused, running answers may finish, and the rest is told."""

    def __init__(self, service: Service, guard: Guard, opened: socket.socket) -> None:
        self._service = service
        self._opened = opened
        limits = service.limits
        for name in ("uvicorn", "uvicorn.error", "asyncio"):  # each request has its one line in the log
            logging.getLogger(name).setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            application(service, guard),
            http=connection_class(service),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_keep_alive=int(limits.keep_alive_seconds),
            timeout_graceful_shutdown=2,
        )
        self._uvicorn = _Uvicorn(config)
        self._ending: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, started: Callable[[], None] = lambda: None) -> None:
        """Runs until `stop`."""
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._opened]))
        ending = asyncio.create_task(self._ending.wait())
        while not self._uvicorn.started and not serving.done():
            await asyncio.sleep(0.01)
        started()
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        await self._finish()
        self._uvicorn.should_exit = True
        await serving

    def stop(self) -> None:
        """Begins the end, or, while it ends, hurries it; from any thread, or from a signal handler."""
        if self._loop is None or self._ending is None:
            return
        is_further = self._service.is_closing
        self._service.is_closing = True
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end_all if is_further else self._ending.set)

    async def _finish(self) -> None:
        """Waits for running answers, for a time, and ends the rest."""
        assert self._loop is not None
        service = self._service
        service.is_closing = True
        deadline = self._loop.time() + service.limits.grace_seconds
        while service.running and self._loop.time() < deadline:
            await asyncio.sleep(0.05)
        self._end_all()
        deadline = self._loop.time() + 2
        while service.running and self._loop.time() < deadline:
            await asyncio.sleep(0.02)

    def _end_all(self) -> None:
        for exchange in list(self._service.running):
            exchange.end(closing())


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(server: Server, started: Callable[[], None]) -> None:
    """Serves until the program is asked to end; the second time at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        server.stop()

    before: dict[int, Any] = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
            before[number] = signal.signal(number, on_signal)
    try:
        asyncio.run(server.serve(started))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
