"""How many rows of prompts a pass may have, so that replies that are being written stay fluent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

FIRST_ROWS = 64  # before anything was measured
LEAST_ROWS = 32  # prompts go on whatever is asked for
_WEIGHT = 0.25  # of a new measurement


class Timed:
    """What a pass took, once it has ended."""

    seconds = 0.0


class Pace:
    """Measures passes on the device that they run on."""

    def __init__(self, share: float) -> None:
        """`share` of the time, 0 to 1, is what prompts may take while replies are written."""
        self._share = share
        self._writing_seconds: float | None = None
        self._row_seconds: float | None = None
        self._reply_seconds = 1.0
        self._held_up_seconds = 0.0  # what replies have waited for prompts since their last pass

    def prompt_rows(self, most: int, *, beside_replies: bool) -> int:
        """For a pass, in which replies that are written take part or for which they wait. From one of their passes to
        the next it takes at most 1 / (1 - share) of the time that it takes without prompts."""
        if not beside_replies:
            return most
        if self._writing_seconds is None or self._row_seconds is None:
            return min(FIRST_ROWS, most)
        return max(1, int(min(most, max(LEAST_ROWS, self._rows_left()))))

    def may_hold_up(self, n_rows: int) -> bool:
        """Whether replies that are written can leave a pass to so many rows of prompts."""
        if self._share >= 1 and self._held_up_seconds:
            return False  # every other pass is theirs
        return n_rows <= self._rows_left()

    def _rows_left(self) -> float:
        """Of prompts, before the next pass that replies take part in has to be over."""
        if self._writing_seconds is None or self._row_seconds is None:
            return 0.0
        if self._share >= 1:
            return inf
        return (self._writing_seconds * self._share / (1 - self._share) - self._held_up_seconds) / self._row_seconds

    @contextmanager
    def timing(self, n_writing: int, n_reading: int, *, holds_up: bool = False) -> Iterator[Timed]:
        """Around a pass with so many rows. `holds_up`: replies that are written wait for its end."""
        timed = Timed()
        started = time.monotonic()
        yield timed
        seconds = timed.seconds = time.monotonic() - started
        self._held_up_seconds = self._held_up_seconds + seconds if holds_up else 0.0
        if not n_reading:
            self._writing_seconds = _mixed(self._writing_seconds, seconds)
        elif n_reading >= LEAST_ROWS:
            spent = seconds - (self._writing_seconds or 0.0) * bool(n_writing)
            self._row_seconds = _mixed(self._row_seconds, max(spent, seconds / 10) / n_reading)

    def note_reply(self, seconds: float) -> None:
        """What a reply took from its beginning to its end."""
        self._reply_seconds = _mixed(self._reply_seconds, seconds)

    def retry_after(self, ahead: float) -> int:
        """In how many whole seconds it is worth asking again with so many rounds of replies ahead: 1 to 60."""
        return round(min(60.0, max(1.0, ahead * self._reply_seconds)))


def _mixed(before: float | None, measured: float) -> float:
    return measured if before is None else before + _WEIGHT * (measured - before)
