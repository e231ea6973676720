"""stdin, stdout and stderr as every command may rely on: there, and taking any character; and what follows when they
cannot be written to."""

import atexit
import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TextIO

from qwen35_local.cli.interrupt import disturbed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def prepare() -> None:
    """Puts streams in the place of stdin, stdout and stderr that are never None, replace what their encoding lacks, and
    end the program by one rule (`Output`). Closed ones are /dev/null: their numbers must not go to other files."""
    _open_closed()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the program runs
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(1, sys.stdout)
        atexit.register(_flush_last, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(2, sys.stderr)


class Output(io.RawIOBase):
    """A stream under which a reader may go away. stdout then raises SystemExit, 141 when nobody reads, 129 when its
    terminal is gone, else 2 with a message; stderr goes on in silence. What is written after that is dropped, and so it
    is once the program was asked to end while it waited for a reader."""

    def __init__(self, raw: io.RawIOBase, *, is_stdout: bool) -> None:
        self._raw = raw
        self._is_stdout = is_stdout
        self._is_terminal = raw.isatty()  # not to be asked any more when it is gone
        self._is_gone = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, data: "ReadableBuffer") -> int:
        return disturbed(lambda: self._write(data))  # by a request to end, while it waits for whoever reads

    def _write(self, data: "ReadableBuffer") -> int:
        try:
            while not self._is_gone:
                written = self._raw.write(data)
                if written is not None:
                    return written
                select.select([], [self], [])  # whoever started us has made it non-blocking
        except SystemExit:  # nobody took it until then, and the end does not wait for them
            self._is_gone = True
            raise
        except OSError as error:
            self._is_gone = True
            if self._is_stdout:
                self._end(error)
        return memoryview(data).nbytes

    def _end(self, error: OSError) -> NoReturn:
        if isinstance(error, ConnectionError):
            raise SystemExit(141)
        if self._is_terminal:
            raise SystemExit(129)
        sys.stderr.write(f"qwen35: stdout: {error.strerror or error}\n")
        raise SystemExit(2)


def _open_closed() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _flush_last(stdout: TextIO) -> None:
    """What was left unwritten when the program was told to end. By now the exit code has its reason; a failure that
    Python finds itself, later than this, would put 120 in its place."""
    with suppress(SystemExit):
        stdout.flush()


def _text(number: int, stream: TextIO | None) -> io.TextIOWrapper:
    if stream is None:
        output = Output(io.FileIO(number, "w", closefd=False), is_stdout=number == 1)
    else:
        output = Output(getattr(stream.buffer, "raw", stream.buffer), is_stdout=number == 1)  # type: ignore[arg-type]
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="replace",
        line_buffering=number == 2 or output.isatty(),
    )
