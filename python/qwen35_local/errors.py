"""Every error this package raises on purpose. A message says what was given, what was expected and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar


class Qwen35Error(Exception):
    """Base of all errors a user can cause and repair; the command line prints it and exits with `exit_code`."""

    exit_code: ClassVar[int] = 2


class InputError(Qwen35Error):
    """An argument, a message or an option is not what was expected."""


class FileFormatError(Qwen35Error):
    """A file, or the metadata read from it, is incomplete, inconsistent or of a kind that is not supported."""


class TemplateError(Qwen35Error):
    """A chat template cannot be compiled or rendered, or exceeds its limits."""


class CoreError(Qwen35Error):
    """The C++ core refused; carries its message."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What a file's content is refused for begins with the file's name."""
    try:
        yield
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error.__cause__
