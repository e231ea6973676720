"""Where a JSON text is inside a string, while it is still written."""

import re

_SIGN = re.compile(r'["\\\n]')


class JsonStrings:
    """A text that is no list and no object, or has a line break inside a string, is no JSON, and has no strings."""

    def __init__(self) -> None:
        self.is_inside = False
        self._is_json: bool | None = None
        self._is_escaped = False

    def push(self, text: str) -> None:
        """More was written."""
        if self._is_json is None and text.strip():
            self._is_json = text.lstrip()[0] in "[{"
        if not (self._is_json and text):
            return
        at, self._is_escaped = int(self._is_escaped), False
        while (found := _SIGN.search(text, at)) is not None:
            at = found.end()
            if found.group() == '"':
                self.is_inside = not self.is_inside
            elif self.is_inside and found.group() == "\\":
                self._is_escaped = at == len(text)
                at += 1
            elif self.is_inside:
                self._is_json = self.is_inside = False
                return
