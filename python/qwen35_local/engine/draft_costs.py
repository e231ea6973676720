"""What passes and draft steps cost on this device, measured while it works."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence

PASS_ROW = 0.05
"""Of what a pass with one row takes, what each further one adds until it is measured: little, so that it is tried."""

DRAFT_STEP = 0.15
"""Of what a pass with one row takes, what a draft step does until it is measured."""

EXACT_SIZES = 64  # up to here every size is measured by itself, beyond in steps of an eighth to a quarter of it
FORGOTTEN_AFTER = 256  # measurements: a size that is larger than all of these is not known any more

_LEVEL_NOTES = 7
_FIRST_NOTES = 3  # of a size: their median is its first ratio, and until then it is that of the shape
_FADING = 1 / 64  # of the weight of what was measured, by any measurement: what is seldom measured is learnt quickly
_MOST_WEIGHT = 1 / 3  # of a measurement
_MOST_CHANGE = 0.4  # of the logarithm of a ratio, before that weight
_DRIFT = 0.01  # of the logarithms of ratios, together, before what follows from them is worked out again


class PassCosts:
    """Of one engine. Whoever measures passes leaves out those that read prompts."""

    def __init__(self, unseen_seconds: float = 0.0) -> None:
        """`unseen_seconds`: what any number of drafts takes beside what is noted."""
        self.n_passes = 0
        self._unseen = unseen_seconds
        self._passes = _Curve(lambda rows: 1 + PASS_ROW * (rows - 1))
        self._drafts = _Curve(float)

    def note_pass(self, rows: int, seconds: float) -> None:
        """A pass took so long, with so many rows of all replies together, drafts among them."""
        self.n_passes += 1
        self._passes.note(rows, seconds)

    def note_draft(self, steps: int, seconds: float) -> None:
        """So many drafts, one after the other, took so long."""
        self._drafts.note(steps, seconds)

    def pass_seconds(self, rows: int) -> float:
        """What a pass with so many rows is expected to take; in passes of one row before anything was measured."""
        return self._passes.at((rows,))[0]

    def draft_seconds(self, steps: int) -> float:
        """What so many drafts, one after the other, are expected to take."""
        return self.each_draft(steps)[-1]

    def each_pass(self, fewest: int, most: int) -> list[float]:
        """`pass_seconds` of each number of rows from `fewest` to `most`."""
        return self._passes.at(range(fewest, most + 1))

    def each_draft(self, most: int) -> list[float]:
        """What any drafts take, and `draft_seconds` of each number of steps from 0 to `most`."""
        if self._drafts.is_measured:
            return [self._unseen, *(self._unseen + seconds for seconds in self._drafts.at(range(1, most + 1)))]
        step = DRAFT_STEP * self.pass_seconds(1)
        return [self._unseen + step * n for n in range(most + 1)]


class _Curve:
    """Seconds by size: a level, which follows the machine within a few measurements, times the ratio of each size to
    the others, which is slow. So what was measured on a busy machine, or before a longer context, compares with what
    is measured now. The level is a median, and a ratio changes by no more than a bound: single outliers are nothing.
    Several that make a size look dear, so that nobody tries it, are forgotten."""

    def __init__(self, shape: Callable[[int], float]) -> None:
        """`shape`: the ratios where none was measured."""
        self._shape = shape
        self._level = 1.0  # seconds
        self._recent: deque[float] = deque(maxlen=_LEVEL_NOTES)  # seconds / ratio
        self._first: dict[int, list[float]] = {}  # the first ratios of a size
        self._sizes: list[int] = []  # those with ratios of their own, ascending
        self._measured: dict[int, float] = {}
        self._counts: dict[int, float] = {}  # measurements, faded
        self._rising: list[float] = []  # the ratios of `_sizes`, made to rise
        self._ratios: dict[int, float] = {}  # those of any size that were asked for
        self._drift = 0.0
        self._n_notes = 0
        self._last_note: dict[int, int] = {}  # of a size

    @property
    def is_measured(self) -> bool:
        return bool(self._recent)

    def note(self, size: int, seconds: float) -> None:
        if size < 1 or not seconds > 0:
            return
        known, ratio = _known_as(size), self._ratio(size)
        self._n_notes += 1
        unmeasured = self._n_notes - self._last_note.get(known, self._n_notes)
        self._last_note[known] = self._n_notes
        if self._n_notes % FORGOTTEN_AFTER == 0:
            self._forget()
        if not self._sizes:
            self._enter(known, self._shape(known))
            self._level = seconds / ratio
        elif known not in self._measured:
            self._note_first(known, seconds / (self._level * ratio) * self._ratio(known))
            return
        self._counts[known] = 1 + self._counts[known] * (1 - _FADING) ** unmeasured
        off = math.log(seconds / (self._level * ratio))
        change = min(_MOST_CHANGE, max(-_MOST_CHANGE, off)) * min(_MOST_WEIGHT, 1 / self._counts[known])
        self._measured[known] *= math.exp(change)
        self._drift += abs(change)
        if self._drift > _DRIFT:
            self._settle()
        self._recent.append(seconds / self._ratio(size))
        self._level = sorted(self._recent)[len(self._recent) // 2]

    def at(self, sizes: Iterable[int]) -> list[float]:
        level, ratios = self._level, self._ratios
        return [level * (ratios.get(size) or self._ratio(size)) for size in sizes]

    def _note_first(self, size: int, ratio: float) -> None:
        first = self._first.setdefault(size, [])
        first.append(ratio)
        if len(first) == _FIRST_NOTES:
            self._enter(size, sorted(first)[_FIRST_NOTES // 2])

    def _enter(self, size: int, ratio: float) -> None:
        self._measured[size], self._counts[size] = ratio, _FIRST_NOTES
        insort(self._sizes, size)
        self._settle()

    def _forget(self) -> None:
        largest = max(size for size, n in self._last_note.items() if n > self._n_notes - FORGOTTEN_AFTER)
        for size in [size for size in self._last_note if size > largest]:
            del self._last_note[size]
            self._first.pop(size, None)
            self._measured.pop(size, None)
        self._sizes = sorted(self._measured)
        self._settle()

    def _settle(self) -> None:
        self._rising = rising([self._measured[n] for n in self._sizes], [self._counts[n] for n in self._sizes])
        self._ratios = {}
        self._drift = 0.0

    def _ratio(self, size: int) -> float:
        if size not in self._ratios:
            self._ratios[size] = self._interpolated(size)
        return self._ratios[size]

    def _interpolated(self, size: int) -> float:
        """Between two measured sizes a straight line, beyond them the shape."""
        sizes, ratios = self._sizes, self._rising
        if not sizes:
            return self._shape(size)
        after = bisect_left(sizes, size)
        if after in (0, len(sizes)):
            nearest = min(after, len(sizes) - 1)
            return ratios[nearest] * self._shape(size) / self._shape(sizes[nearest])
        low, high = sizes[after - 1], sizes[after]
        share = (size - low) / (high - low)
        return (1 - share) * ratios[after - 1] + share * ratios[after]


def rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest values that do not fall: neighbours that do become their mean (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        mean, total, n = value, weight, 1
        while pools and pools[-1][0] > mean:
            before, own, many = pools.pop()
            mean = (before * own + mean * total) / (own + total)
            total, n = own + total, n + many
        pools.append((mean, total, n))
    return [mean for mean, _, n in pools for _ in range(n)]


def _known_as(size: int) -> int:
    """Up to EXACT_SIZES the size itself, else its three leading binary digits: 20 for 20 to 23."""
    if size <= EXACT_SIZES:
        return size
    step = 1 << (size.bit_length() - 3)
    return size // step * step
