"""A file that appears under its name whole or not at all.

Data goes to `.<name>.partial-<pid>` in the same folder; `commit` flushes it to the disk and renames it. Whatever
happens before that, the final name keeps its old file or none.
"""

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from qwen35_local.errors import InputError


class PartialFile:
    """Context manager: leaving it without `commit` removes the partial file."""

    def __init__(self, target: Path) -> None:
        """`target`: the final path; its folder must exist. Partials of processes that are gone are removed."""
        self._target = target
        self.path = target.with_name(f".{target.name}.partial-{os.getpid()}")
        remove_stale(target)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            self.path.unlink(missing_ok=True)  # of an earlier process that had this number
            self._file: BinaryIO = os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise InputError(f"{target}: cannot write here ({error.strerror}).") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def seek_end(self) -> int:
        """Goes on behind what others wrote through `path`; returns the size so far."""
        return self._file.seek(0, os.SEEK_END)

    def write(self, data: memoryview) -> None:
        """All of `data`. Raises OSError."""
        while data:
            data = data[self._file.write(data) :]

    def commit(self) -> None:
        """Flushes to the disk and gives the file its name, replacing what had it. Raises OSError."""
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(self._target)
        if sys.platform != "win32":
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def remove_stale(target: Path) -> None:
    """Removes partial files of `target` whose process no longer runs."""
    prefix = f".{target.name}.partial-"
    for path in target.parent.iterdir():
        number = path.name.removeprefix(prefix)
        if path.name.startswith(prefix) and number.isdecimal() and not _runs(int(number)):
            with contextlib.suppress(OSError):
                path.unlink()


def _runs(pid: int) -> bool:
    if sys.platform == "win32":
        return False  # a file in use cannot be unlinked there, so trying is safe
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
