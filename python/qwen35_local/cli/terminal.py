"""What may reach a terminal: text from outside is shown, never obeyed."""

import os
import re
import sys
from typing import TextIO

# C0 and C1 controls but newline and tab; bidirectional overrides and isolates; line and paragraph separators.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]")


def printable(text: str) -> str:
    r"""Control characters as visible escapes (ESC becomes the four characters \x1b); everything else unchanged."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable_line(text: str, limit: int = 200) -> str:
    """One line of at most `limit` characters, for names and values from files."""
    line = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def typed(text: str) -> str:
    """Text from the command line or a terminal as Unicode: what the locale could not read is taken for UTF-8, and what
    is not that becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "replace")
    return text


def is_dumb() -> bool:
    """Whether the terminal says that it obeys no escape sequences."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def has_style(stream: TextIO) -> bool:
    """Whether escape sequences are welcome: a terminal, NO_COLOR unset or empty, not TERM=dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not is_dumb()


class StyledWriter:
    """Writes pieces of text to one stream, dimmed where asked and where the stream allows it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_style = has_style(stream)
        self._at_line_start = True

    def write(self, text: str, *, dim: bool = False) -> None:
        if not text:
            return
        safe = printable(text)
        self._stream.write(f"\x1b[2m{safe}\x1b[0m" if dim and self._has_style else safe)
        self._stream.flush()
        self._at_line_start = safe.endswith("\n")

    def line(self, text: str = "", *, dim: bool = False) -> None:
        self.write(text, dim=dim)
        self.write("\n")

    def end_line(self) -> None:
        """A newline unless the cursor already stands at the start of one."""
        if not self._at_line_start:
            self.write("\n")


def notice(text: str) -> None:
    """A line on stderr."""
    StyledWriter(sys.stderr).line(text, dim=True)
