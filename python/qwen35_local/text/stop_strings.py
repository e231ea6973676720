"""The end of a text at the first of several stop strings, found while the text comes in pieces."""

from collections.abc import Sequence


class StopStrings:
    """Passes text on until one of `stops` is complete; together the same for every way of cutting the text.

    Of several, the one that is complete first counts; of those that end at the same character, the longest."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        """`stops`: none of them empty."""
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    @property
    def is_holding(self) -> bool:
        """Whether text is held back that may be the beginning of a stop string."""
        return bool(self._held)

    def push(self, text: str) -> str:
        """What can be shown now: text that belongs to no stop string, whatever comes. After one was found: nothing."""
        if self.found is not None:
            return ""
        text = self._held + text
        places = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            _, at, self.found = min(places)
            self._held = ""
            return text[:at]
        shown = min((self._start_of(stop, text) for stop in self._stops), default=len(text))
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _start_of(stop: str, text: str) -> int:
        """Where the longest end of `text` begins that `stop` begins with."""
        at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
        while at >= 0 and not stop.startswith(text[at:]):
            at = text.find(stop[0], at + 1)
        return at if at >= 0 else len(text)
