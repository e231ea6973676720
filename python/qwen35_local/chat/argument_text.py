"""The text of an argument of a call, while the model still writes it."""

import re

_LAST_BREAKS = {"\r\n": re.compile(r"\r?\n?\Z"), "\n": re.compile(r"\n?\Z"), "": re.compile(r"\Z")}
"""By the line break in front: the end of a value that may be the break behind it."""


class ArgumentText:
    """The argument in what stands between its tags: one line break after the opening tag and one before the closing one
    are layout. The first says how lines end: CR LF only where it is CR LF, so that a value which ends in a CR of its
    own keeps it. A value that starts on the line of its tag has no such layout and is taken whole."""

    def __init__(self) -> None:
        self._last_break: re.Pattern[str] | None = None
        self._held = ""
        self._pieces: list[str] = []

    def push(self, written: str) -> str:
        """More was written; returns what this decides of the argument."""
        text = self._held + written
        if self._last_break is None:
            if text in ("", "\r"):
                self._held = text
                return ""
            first_break = next(each for each in _LAST_BREAKS if text.startswith(each))
            self._last_break = _LAST_BREAKS[first_break]
            text = text.removeprefix(first_break)
        match = self._last_break.search(text, max(0, len(text) - 2))
        end = match.start() if match else len(text)
        self._held = text[end:]
        return self._add(text[:end])

    def finish(self) -> str:
        """No more comes; returns the rest of the argument."""
        held, self._held = self._held, ""
        return "" if held.endswith("\n") else self._add(held)

    def __str__(self) -> str:
        return "".join(self._pieces)

    def _add(self, text: str) -> str:
        self._pieces.append(text)
        return text
