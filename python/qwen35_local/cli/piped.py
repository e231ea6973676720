"""What comes on stdin when it is not a terminal."""

import io
import os
import select
import stat
import sys

from qwen35_local.cli.terminal import notice
from qwen35_local.errors import InputError

GRACE_SECONDS = 2.0
LIMIT_BYTES = 64 << 20  # a million tokens are about 4 MB of text


def read_piped(*, is_needed: bool) -> str:
    """All of it, however slowly it comes; bytes that are not UTF-8 become U+FFFD. Where it is not needed, the first
    byte has to come within GRACE_SECONDS: a stdin that was inherited and that nobody closes is gone without, aloud.
    Raises InputError when it cannot be read or is larger than LIMIT_BYTES."""
    if sys.stdin.isatty():
        return ""
    try:
        data = _read(sys.stdin.fileno(), is_needed)
    except io.UnsupportedOperation:  # replaced by whoever calls the program in their own process
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise InputError(f"stdin: {error.strerror or error}; give a text there, or </dev/null for none") from None
    return data.decode("utf-8", "replace").strip("\n")


def _read(number: int, is_needed: bool) -> bytes:
    data = bytearray()
    can_wait = os.name == "posix" and not stat.S_ISREG(os.fstat(number).st_mode)
    while True:
        grace = None if is_needed or data else GRACE_SECONDS
        if can_wait and not select.select([number], [], [], grace)[0]:
            notice(
                f"(nothing came on stdin in {GRACE_SECONDS:.0f} s: answering without it; with </dev/null nobody waits)"
            )
            return b""
        try:
            piece = os.read(number, 1 << 20)
        except BlockingIOError:  # another process took it
            continue
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > LIMIT_BYTES:
            raise InputError(f"stdin holds more than {LIMIT_BYTES >> 20} MiB; give a text of at most that")
