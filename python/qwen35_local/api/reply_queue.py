"""One reply at a time over one model: further ones wait in the order in which they were asked for."""

import threading
from collections import deque
from collections.abc import Callable

from qwen35_local.errors import InputError


class Ticket:
    """A reply's place in the queue, and whether it was cancelled."""

    def __init__(self, close: Callable[[], None]) -> None:
        """`close` ends the reply, whether a thread is reading it or not."""
        self.close = close
        self.is_cancelled = False
        self.thread = 0


class ReplyQueue:
    """Every method may be called from any thread; `cancel` from a signal handler too."""

    def __init__(self, cancel_current: Callable[[], None]) -> None:
        """`cancel_current` stops the work of the reply in progress within one pass of the model."""
        self._cancel_current = cancel_current
        self._condition = threading.Condition()  # over a lock that a signal handler's thread may hold already
        self._current: Ticket | None = None
        self._waiting: deque[Ticket] = deque()
        self._is_closed = False

    def enter(self, ticket: Ticket) -> bool:
        """Waits until no other reply is in progress. False when the ticket was cancelled meanwhile.

        Raises InputError when the model is closed, or when this thread itself holds the reply in progress."""
        ticket.thread = threading.get_ident()
        with self._condition:
            self._waiting.append(ticket)
            try:
                while not ticket.is_cancelled:
                    self._check(ticket)
                    if self._current is None and self._waiting[0] is ticket:
                        self._current = ticket
                        return True
                    self._condition.wait()
                return False
            finally:
                self._waiting.remove(ticket)
                self._condition.notify_all()

    def _check(self, ticket: Ticket) -> None:
        if self._is_closed:
            raise InputError("the model is closed; load it again with Model.from_file")
        if self._current is not None and self._current.thread == ticket.thread:
            raise InputError(
                "another stream of this model is unfinished in this thread; read it to its end or close() it first"
            )

    def leave(self, ticket: Ticket) -> None:
        """The reply is over."""
        with self._condition:
            if self._current is ticket:
                self._current = None
                self._condition.notify_all()

    def cancel(self, ticket: Ticket) -> None:
        """The ticket's reply ends soon, or never begins; other replies are not touched."""
        with self._condition:
            ticket.is_cancelled = True
            if self._current is ticket:
                self._cancel_current()
            self._condition.notify_all()

    def close(self) -> None:
        """Ends the reply in progress and refuses every later one; returns when none is in progress."""
        with self._condition:
            self._is_closed = True
            current = self._current
            self._condition.notify_all()
        if current is not None:
            current.close()
