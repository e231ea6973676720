"""The key that ends the thinking of a reply: Esc, while the reply is written to a terminal.

Ctrl-C and Ctrl-Z keep their meaning. What else is typed meanwhile is there at the next prompt.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from qwen35_local.cli.terminal import is_dumb

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPress

POLL_SECONDS = 0.05  # how long an Esc waits for the rest of another key's sequence, too


def has_answer_key() -> bool:
    """Whether single keys can be read: not from a pipe, nor where the terminal edits lines itself."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb()


@contextmanager
def answer_key(answer_now: Callable[[], None]) -> Iterator[None]:
    """While inside, Esc calls `answer_now`, on another thread."""
    if not has_answer_key() or threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = threading.Event()
    with _single_keys():
        reader = threading.Thread(target=_read, args=(is_over, answer_now), daemon=True)
        reader.start()
        try:
            yield
        finally:
            is_over.set()
            reader.join()


def _read(is_over: threading.Event, answer_now: Callable[[], None]) -> None:
    from prompt_toolkit.input import create_input
    from prompt_toolkit.input.typeahead import store_typeahead
    from prompt_toolkit.keys import Keys

    terminal = create_input()
    kept: list[KeyPress] = []
    with suppress(OSError):  # a terminal that is gone
        while not (is_over.is_set() or terminal.closed):
            keys = terminal.read_keys() if _has_come(is_over) else terminal.flush_keys()
            if keys and keys[-1].key == Keys.Escape:  # nothing came behind it: it is the key, not the beginning of one
                answer_now()
                keys.pop()
            kept += keys
    store_typeahead(terminal, kept)


if sys.platform == "win32":
    import msvcrt

    def _has_come(is_over: threading.Event) -> bool:
        return msvcrt.kbhit() or (is_over.wait(POLL_SECONDS) and False)

    @contextmanager
    def _single_keys() -> Iterator[None]:
        """The console gives keys as they are typed."""
        yield

else:
    import termios

    def _has_come(is_over: threading.Event) -> bool:
        return bool(select.select([sys.stdin.fileno()], [], [], POLL_SECONDS)[0])

    @contextmanager
    def _single_keys() -> Iterator[None]:
        """The terminal gives keys as they are typed, and does not show them; but for the keys that signal. As it was at
        the end, and while the program is stopped."""
        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)

        def begin() -> None:
            single: list[Any] = termios.tcgetattr(number)
            single[0] &= ~termios.ICRNL  # Enter comes as a prompt expects it
            single[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
            single[6] = [*single[6]]
            single[6][termios.VMIN], single[6][termios.VTIME] = 1, 0
            termios.tcsetattr(number, termios.TCSADRAIN, single)

        def end() -> None:
            with suppress(termios.error):  # a terminal that is gone
                termios.tcsetattr(number, termios.TCSADRAIN, before)

        def stop(signal_number: int, frame: FrameType | None) -> None:
            end()
            os.kill(os.getpid(), signal.SIGSTOP)
            begin()

        was = signal.signal(signal.SIGTSTP, stop)
        try:
            begin()
            yield
        finally:
            end()
            signal.signal(signal.SIGTSTP, was)
