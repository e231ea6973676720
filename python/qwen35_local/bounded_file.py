"""Small files from outside, read whole: only what is a file, and never more of it than such a file can need."""

import os
import stat
from pathlib import Path

from qwen35_local.errors import FormatError


def read(path: Path, limit_bytes: int, *, accepts_pipe: bool = False) -> bytes:
    """The content of a regular file, or of a pipe where the shell may have put one (`<(...)`, /dev/stdin). A pipe that
    nobody writes to is empty. Raises FormatError for a device or more than `limit_bytes`; OSError."""
    with open(path, "rb", opener=_without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        is_pipe = stat.S_ISFIFO(mode)
        if not (stat.S_ISREG(mode) or (is_pipe and accepts_pipe)):
            raise FormatError(f"{path}: is a {'pipe' if is_pipe else 'device'}; expected a regular file.")
        if is_pipe:
            os.set_blocking(file.fileno(), True)
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise FormatError(f"{path}: larger than {limit_bytes >> 20} MiB, which no file of this kind needs to be.")
    return data


def _without_waiting(path: str, flags: int) -> int:
    """Opens a named pipe at once, whether or not it has a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
