"""Every error that this package raises on purpose, by the core too: what was given, what was expected and what to do.

Where Python has a class for the same thing, it is among the bases."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar


class Qwen35Error(Exception):
    """Base of all errors a user can cause and repair; the command line prints it and exits with `exit_code`."""

    exit_code: ClassVar[int] = 2


class InputError(Qwen35Error, ValueError):
    """An argument, a message or an option is not what was expected: a token id out of range, a context that is full."""


class FormatError(Qwen35Error, ValueError):
    """A file, or the metadata read from it, is truncated, inconsistent or of a kind that is not supported."""


class TemplateError(Qwen35Error, ValueError):
    """A chat template cannot be compiled or rendered, or exceeds its limits."""


class DeviceError(Qwen35Error):
    """A device failed: what it reported, and what it was asked for."""


class OutOfMemory(Qwen35Error, MemoryError):
    """A device or the host has no memory left for what was asked; nothing of it was taken."""


class Unavailable(Qwen35Error):
    """A device or an instruction set that this build or this machine does not have."""


class RemoteError(Qwen35Error):
    """A server on another machine cannot be reached, failed, or said what it should not. `brief`: the message without
    the server's own words, which may repeat what it was told."""

    def __init__(self, message: str, brief: str | None = None) -> None:
        super().__init__(message)
        self.brief = message if brief is None else brief


class Cancelled(Qwen35Error):
    """Another thread cancelled the call."""


class Busy(Qwen35Error):
    """More replies are waiting than may. `retry_after`: in how many seconds it is worth asking again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What a file's content is refused for begins with the file's name."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__
