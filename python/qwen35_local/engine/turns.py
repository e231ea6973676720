"""One thread at a time, whatever a signal handler raises and wherever.

Python calls signal handlers between the instructions of the main thread: where a function begins, behind a call, where
a loop goes back. What they raise is raised there. So what has to be undone is undone by the `with` of a plain lock,
between whose taking and whose block there is no such place, or by an assignment in a `finally`. `threading.Condition`
and `contextlib.contextmanager` are functions of Python, and stay entered when they are interrupted on the way in.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class _Turn(NamedTuple):
    thread: int
    lasts: threading.Lock
    """Held by the thread until its turn is over."""


class Turns:
    def __init__(self) -> None:
        self._turn: _Turn | None = None
        self._choosing = threading.Lock()
        self._ahead = threading.Lock()

    @property
    def is_mine(self) -> bool:
        """Whether this is called within a turn of this very thread: by what it does, by a signal handler, or by the end
        of an object."""
        turn = self._turn
        return turn is not None and turn.thread == threading.get_ident()

    def take(self, do: Callable[[], object], is_done: Callable[[], bool]) -> None:
        """Does it, unless `is_done`, which a turn of another thread may bring about."""
        while not is_done():
            with self._ahead:
                pass
            if self._was_free_for(lambda: is_done() or do()):
                return

    def take_next(self, do: Callable[[], T]) -> T:
        """Does it before whoever else waits to `take`; at once within a turn of this very thread."""
        if self.is_mine:
            return do()
        results: list[T] = []
        with self._ahead:
            while not self._was_free_for(lambda: results.append(do())):
                pass
        return results[0]

    def _was_free_for(self, do: Callable[[], object]) -> bool:
        """Does it and returns True, or returns False at the end of the turn that another thread had."""
        mine = _Turn(threading.get_ident(), threading.Lock())
        with mine.lasts:
            try:
                with self._choosing:
                    turn = self._turn = self._turn or mine
                if turn is mine:
                    do()
                    return True
            finally:
                if self._turn is mine:
                    self._turn = None
        with turn.lasts:
            return False
