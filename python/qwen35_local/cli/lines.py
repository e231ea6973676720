"""Reading what a person types: with editing and history, or line by line where a terminal cannot move its cursor."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from qwen35_local.cli import slash
from qwen35_local.cli.terminal import is_dumb, typed

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

# Between the lines of a paste; nobody types a line so fast. Over slow connections they come in larger pieces.
BURST_SECONDS = 0.03


class Lines(Protocol):
    """Where a person's messages come from."""

    def prompt(self, text: str, *, prompt_continuation: str = "", default: str = "") -> str:
        """A message, which may have several lines. Raises KeyboardInterrupt, EOFError."""


def line_reader(history: Path | None) -> Lines:
    """The one that fits the terminal. `history`: the file that keeps what was typed; None: until the end only."""
    return PlainLines() if is_dumb() else EditedLines(history)


def more_follows(number: int) -> bool:
    """Whether another line comes at once, as in a paste that the terminal does not mark as one."""
    return os.name == "posix" and bool(select.select([number], [], [], BURST_SECONDS)[0])


class EditedLines:
    """Editing, history across runs, Alt-Enter for a new line, Ctrl-Z, completion of slash commands."""

    def __init__(self, history: Path | None) -> None:
        self._session = _session(history)

    def prompt(self, text: str, *, prompt_continuation: str = "", default: str = "") -> str:
        return typed(self._session.prompt(text, prompt_continuation=prompt_continuation, default=default))


class PlainLines:
    """The terminal's own line editing. A burst of lines is one message, unless it begins with a command."""

    def prompt(self, text: str, *, prompt_continuation: str = "", default: str = "") -> str:
        if default:
            sys.stdout.write(f"{default}\n")
        said = b""
        try:
            with shown(text), suppress(OSError):  # a terminal that is gone has nothing more to say
                said = self._burst(sys.stdin.fileno())
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            raise
        if not said:
            sys.stdout.write("\n")
            raise EOFError
        return said.decode("utf-8", "replace").removesuffix("\n")

    def _burst(self, number: int) -> bytes:
        said = os.read(number, 1 << 16)
        while said.endswith(b"\n") and not slash.is_command(said.decode("utf-8", "replace")):
            if not more_follows(number):
                break
            said += os.read(number, 1 << 16)
        return said


@contextmanager
def shown(prompt: str) -> Iterator[None]:
    """Shows a prompt, and again after Ctrl-Z and `fg`."""

    def show() -> None:
        sys.stdout.write(prompt)
        sys.stdout.flush()

    gone: list[SystemExit] = []

    def show_again(number: int, frame: FrameType | None) -> None:
        try:
            show()
        except SystemExit as end:  # a terminal that closes also signals this; it ends the reading, and nothing later
            gone.append(end)

    show()
    if os.name != "posix":
        yield
        return
    before = signal.signal(signal.SIGCONT, show_again)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)
    if gone:
        raise gone[0]


def _session(history: Path | None) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import create_output

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        is_pasted = bool(event.key_processor.input_queue) or more_follows(event.app.input.fileno())
        if is_pasted and not slash.is_command(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    output = create_output()
    if hasattr(output, "enable_cpr"):
        output.enable_cpr = False  # a terminal that does not say where its cursor is would be warned about
    return PromptSession(
        history=_history(history),
        key_bindings=keys,
        multiline=True,
        completer=WordCompleter(sorted(slash.COMMANDS), sentence=True),
        complete_while_typing=False,
        enable_suspend=True,
        output=output,
    )


def _history(path: Path | None) -> "History":
    """What was typed, in a file that only its owner may read. A disk that fills up later is told where the conversation
    is kept."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):
                super().store_string(typed(string))

    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.open("rb").close()
    except OSError:
        return InMemoryHistory()
    return Kept(str(path))
