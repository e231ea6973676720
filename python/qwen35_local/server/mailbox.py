"""What the engine's thread tells, on its way to the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """`put` from any thread, `take` on the loop. Beyond `bound` entries nothing more is kept, and `overflowed` is
    called once, by whoever puts."""

    def __init__(self, bound: int, overflowed: Callable[[], None]) -> None:
        """Raises RuntimeError outside a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._entries: deque[T] = deque()
        self._arrival = asyncio.Event()
        self._is_woken = False
        self._bound = bound
        self._overflowed = overflowed
        self.has_overflowed = False

    def put(self, entry: T) -> None:
        if self.has_overflowed:
            return
        if len(self._entries) >= self._bound:
            self.has_overflowed = True
            self._overflowed()
        else:
            self._entries.append(entry)
        self.wake()

    def wake(self) -> None:
        """`take` returns, with nothing if there is nothing."""
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has ended, and nobody reads any more
                self._loop.call_soon_threadsafe(self._arrival.set)

    async def take(self, seconds: float) -> list[T]:
        """Everything that has arrived, as soon as there is something; nothing after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrival.wait()
        self._arrival.clear()
        self._is_woken = False
        taken = []
        while self._entries:
            taken.append(self._entries.popleft())
        return taken
