"""What signals mean: Ctrl-C stops the reply, not the program; being ended from outside leaves as Ctrl-D does."""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def end_at_once() -> None:
    """Ctrl-C ends the program without a word, as long as there is nothing to tidy up."""
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))


def end_in_order() -> None:
    """Ctrl-C raises KeyboardInterrupt; a closed terminal and a request to end raise SystemExit, so that what is to be
    kept is written and what is left over is removed. A terminal that closes can signal more than once: the first
    counts. What is removed at the end is not interrupted."""
    atexit.register(_ignore)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ending in _ENDINGS:
        if signal.getsignal(ending) != signal.SIG_IGN:  # as under nohup
            signal.signal(ending, _end)


def _ignore() -> None:
    for ending in (signal.SIGINT, *_ENDINGS):
        signal.signal(ending, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    _Held.number = number
    _raise_unless_held()


class _Held:
    """Whether a request to end has to wait, and the one that does."""

    is_held = False
    number: int | None = None


@contextmanager
def undisturbed() -> Iterator[None]:
    """While inside, a request to end waits; it raises SystemExit at the end of this."""
    with _holding(True):
        yield


@contextmanager
def disturbed() -> Iterator[None]:
    """The part of something undisturbed that a request to end ends at once: nothing is between the two where it could
    keep the rest from being done."""
    with _holding(False):
        yield


@contextmanager
def _holding(is_held: bool) -> Iterator[None]:
    before, _Held.is_held = _Held.is_held, is_held
    try:
        _raise_unless_held()
        yield
    finally:
        _Held.is_held = before
        _raise_unless_held()


def _raise_unless_held() -> None:
    if _Held.number is not None and not _Held.is_held:
        number, _Held.number = _Held.number, None
        raise SystemExit(128 + number)


@contextmanager
def interruptible(cancel: Callable[[], None]) -> Iterator[None]:
    """While inside, the first Ctrl-C calls `cancel`; a second one raises KeyboardInterrupt as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
