"""Files that appear under their name whole or not at all.

Data goes to `.<name>.qwen35-<random>.partial` in the same folder, locked for as long as it is written; `commit`
flushes it to the disk and gives it its name. Whatever happens before that, the final name keeps its old file or none.
An error, Ctrl-C, SIGTERM or a closed terminal removes the partial file. SIGKILL leaves it, unlocked, and `remove_stale`
removes it.
"""

import contextlib
import errno
import os
import re
import secrets
import signal
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import BinaryIO, Self

from qwen35_local.errors import InputError

if sys.platform != "win32":
    import fcntl

_OURS = re.compile(r"\..+\.qwen35-[0-9a-f]{8}\.partial")


class PartialFile:
    """Context manager: leaving it without `commit` removes the partial file. In the main thread, and where nobody else
    handles them, SIGTERM and SIGHUP raise SystemExit meanwhile, with the exit code that a shell gives them. Entering
    raises OSError, which names the final path."""

    def __init__(self, target: Path, mode: int = 0o666) -> None:
        """`target`: the final path; its folder must exist. `mode`: who may read and write it, less the umask."""
        self._target = target
        self._mode = mode
        self._file: BinaryIO | None = None
        self._caught: list[int] = []
        self.path = target.with_name(f".{target.name}.qwen35-{secrets.token_hex(4)}.partial")

    def __enter__(self) -> Self:
        try:
            self._catch_signals()
            self._file = self._created()
        except OSError as error:  # what has this name is not ours
            self._give_signals_back()
            raise OSError(error.errno, error.strerror, str(self._target)) from None
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def seek_end(self) -> int:
        """Goes on behind what others wrote through `path`; returns the size so far."""
        _lock(self._open.fileno())  # on NFS, the others closing the file has given up the lock
        return self._open.seek(0, os.SEEK_END)

    def write(self, data: memoryview) -> None:
        """All of `data`. Raises OSError, which names the final path."""
        with self._naming():
            while data:
                data = data[self._open.write(data) :]

    def commit(self) -> None:
        """Flushes to the disk and gives the file its name, replacing what had it. Raises OSError, which names it."""
        with self._naming():
            os.fsync(self._open.fileno())
            self._open.close()
            self.path.replace(self._target)
            if sys.platform != "win32":
                folder = os.open(self._target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._target)) from None

    @property
    def _open(self) -> BinaryIO:
        assert self._file is not None, "only inside the with statement"
        return self._file

    def _created(self) -> BinaryIO:
        if self._target.exists() and not self._target.is_file():  # a folder, or a device, which no name is taken from
            number = errno.EISDIR if self._target.is_dir() else errno.EEXIST
            raise OSError(number, os.strerror(number))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        while True:
            file = os.fdopen(os.open(self.path, flags, self._mode), "r+b", buffering=0)
            _lock(file.fileno())
            if self.path.exists():  # nobody took it for stale before it was locked
                return file
            file.close()

    def _discard(self) -> None:
        """Removes the file, also when Ctrl-C is pressed again meanwhile."""
        while True:
            try:
                if self._file is not None:
                    self._file.close()
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
                self._give_signals_back()
                return
            except (KeyboardInterrupt, SystemExit):
                continue

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                self._caught.append(number)
                signal.signal(number, _leave)

    def _give_signals_back(self) -> None:
        while self._caught:
            signal.signal(self._caught.pop(), signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def check_target(target: Path, read: Iterable[Path | None] = (), *, overwrite: bool = True) -> None:
    """Before there is anything to write. Raises InputError where no file can appear, for one of those that are `read`,
    and, unless `overwrite`, for one that exists."""
    if not target.parent.is_dir():
        raise InputError(f"{target.parent}: no such folder; create it first.")
    if not target.exists():
        return
    if any(path is not None and path.exists() and target.samefile(path) for path in read):
        raise InputError(f"{target}: is itself what is read; choose another name for the output.")
    if not target.is_file():
        raise InputError(f"{target}: exists and is not a file.")
    if not overwrite:
        raise InputError(f"{target}: exists; choose another name, or replace it with --force.")


def write_whole(path: Path, pieces: Sequence[bytes | memoryview], mode: int = 0o600) -> None:
    """Writes a file that, by default, only its owner may read. Raises OSError, which names it."""
    with PartialFile(path, mode) as file:
        for piece in pieces:
            file.write(memoryview(piece))
        file.commit()


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Removes the partial files of ours in a folder, or those of the file `name` there, that no process writes to."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if _OURS.fullmatch(path.name) and (name is None or path.name.startswith(f".{name}.qwen35-")):
                with contextlib.suppress(OSError):
                    _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    """Raises OSError when another user owns the file or a process writes to it."""
    if sys.platform == "win32":
        path.unlink()  # refused while the file is open
        return
    number = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(number)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(number)


def _lock(number: int) -> None:
    """Marks an open file as being written to. Nothing where the file system has no locks: nothing is stale there."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
