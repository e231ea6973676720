"""What signals mean: Ctrl-C stops the reply, not the program; being ended from outside leaves as Ctrl-D does."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

T = TypeVar("T")

_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def end_at_once() -> None:
    """Ctrl-C ends the program without a word, as long as there is nothing to tidy up."""
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))


def end_in_order() -> None:
    """Ctrl-C raises KeyboardInterrupt; a closed terminal and a request to end raise SystemExit, so that what is to be
    kept is written and what is left over is removed. A terminal that closes can signal more than once: the first
    counts. What is removed at the end is not interrupted."""
    atexit.register(_ignore)
    sys.unraisablehook = _raise_again
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ending in _ENDINGS:
        if signal.getsignal(ending) != signal.SIG_IGN:  # as under nohup
            signal.signal(ending, _end)


def _ignore() -> None:
    for ending in (signal.SIGINT, *_ENDINGS):
        signal.signal(ending, signal.SIG_IGN)


def _raise_again(lost: "UnraisableHookArgs") -> None:
    """Python drops what is raised while an object is let go of, which can happen anywhere. A signal that came just then
    is sent once more, a moment later."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        _send_soon(signal.SIGINT)
    elif isinstance(lost.exc_value, _Ended):
        signal.signal(lost.exc_value.number, _end)
        _send_soon(lost.exc_value.number)
    else:
        sys.__unraisablehook__(lost)


def _send_soon(number: int) -> None:
    again = threading.Timer(0.01, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


class _Ended(SystemExit):
    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _end(number: int, frame: FrameType | None) -> None:
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    _Held.number = number
    if _Held.cancel is not None:
        _Held.cancel()
    _raise_unless_held()


class _Held:
    """Whether a request to end has to wait, what it does meanwhile, and the one that waits."""

    is_held = False
    cancel: Callable[[], None] | None = None
    number: int | None = None


@contextmanager
def undisturbed() -> Iterator[None]:
    """While inside, a request to end waits; it raises SystemExit at the end of this."""
    with _holding(None):
        yield


def disturbed(do: Callable[[], T]) -> T:
    """Does the part of something undisturbed that a request to end ends at once: nothing is between the two where it
    could keep the rest from being done. No signal interrupts other threads."""
    if threading.current_thread() is not threading.main_thread():
        return do()
    before, _Held.is_held = _Held.is_held, False
    try:
        _raise_unless_held()
        return do()
    finally:
        _Held.is_held = before


@contextmanager
def _holding(cancel: Callable[[], None] | None) -> Iterator[None]:
    before = _Held.is_held, _Held.cancel
    _Held.is_held, _Held.cancel = True, cancel
    try:
        yield
    finally:
        _Held.is_held, _Held.cancel = before
        _raise_unless_held()


def _raise_unless_held() -> None:
    if _Held.number is not None and not _Held.is_held:
        number, _Held.number = _Held.number, None
        raise _Ended(number)


@contextmanager
def interruptible(cancel: Callable[[], None]) -> Iterator[None]:
    """While inside, the first Ctrl-C calls `cancel`; a second one raises KeyboardInterrupt as usual. A request to end
    calls it too, and waits for the end of this, or for something `disturbed`: it interrupts nothing at work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with _holding(cancel):
            yield
    finally:
        signal.signal(signal.SIGINT, before)
