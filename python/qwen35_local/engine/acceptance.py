"""How many drafts are accepted: of one reply, and of all replies of an engine, which a new one starts from.

All rates are conditional: of drafts before which all were accepted.
"""

from collections.abc import Sequence
from typing import Literal

from qwen35_local.models.drafts import MOST_DRAFTS

Source = Literal["mtp", "copy"]
"""Where drafts come from: the model's block that predicts further tokens, or earlier text (`copy_lookup`)."""

SOURCES: tuple[Source, ...] = ("mtp", "copy")

FIRST_RATES: dict[Source, list[float]] = {"mtp": [0.7] * MOST_DRAFTS, "copy": [0.3, 0.5, 0.7, 0.85, 0.9]}
"""Before any draft was made: of "mtp" by position, of "copy" where up to 3, 7, 15, 31 and more tokens match."""

REPLY_DECAY, ENGINE_DECAY = 0.9, 0.99  # of what was counted, by a pass with drafts
REPLY_WEIGHT, ENGINE_WEIGHT = 3.0, 6.0  # in drafts, of what is expected before

_LAST_COPY = len(FIRST_RATES["copy"]) - 1
_COPY_KINDS = [min(max(matched.bit_length() - 2, 0), _LAST_COPY) for matched in range(32 + MOST_DRAFTS)]


def kinds(source: Source, n: int, matched: int) -> Sequence[int]:
    """Which rate each of `n` drafts has: a copied one that is accepted makes the match longer by one."""
    if source == "mtp":
        return range(n)
    matched = min(matched, 32)
    return _COPY_KINDS[matched : matched + n]


class Acceptance:
    """Of the drafts of one source: what was counted, and before that what is expected."""

    def __init__(self, expected: Sequence[float], decay: float, weight: float) -> None:
        """`expected`: rates by kind, which count as much as `weight` drafts."""
        self._expected = expected
        self._decay = decay
        self._weight = weight
        self._tried = [0.0] * len(expected)
        self._accepted = [0.0] * len(expected)
        self._rates: list[float] | None = list(expected)

    def note(self, kinds: Sequence[int], accepted: int) -> None:
        """Drafts of these kinds, one after the other, of which the first `accepted` were accepted. Those behind the
        first that was not say nothing."""
        self._tried = [n * self._decay for n in self._tried]
        self._accepted = [n * self._decay for n in self._accepted]
        for kind in kinds[: accepted + 1]:
            self._tried[kind] += 1
        for kind in kinds[:accepted]:
            self._accepted[kind] += 1
        self._rates = None

    @property
    def rates(self) -> list[float]:
        """By kind. By how much the odds of one differ from what is expected is expected of the next one too."""
        if self._rates is None:
            rates, differs = [], 1.0
            for tried, accepted, before in zip(self._tried, self._accepted, self._expected, strict=True):
                odds = before / (1 - before)
                likely = odds * differs / (1 + odds * differs)
                rate = (accepted + self._weight * likely) / (tried + self._weight)
                rate = min(0.995, max(0.005, rate))
                differs = rate / (1 - rate) / odds
                rates.append(rate)
            self._rates = rates
        return self._rates
