"""Two models on the same prompts: how often one alone is right, and whether that is more than chance.

The sign test: where they differ, each is as likely to be the right one if they are equally good (McNemar 1947, in its
exact form). Of many tests at once, Holm's correction (1979) keeps the chance of any false alarm below the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

LEVEL = 0.05


@dataclass(frozen=True)
class Pairs:
    """Prompts that one of two models alone answered rightly."""

    first: int
    other: int

    @property
    def p(self) -> float:
        """Of the two-sided sign test."""
        n = self.first + self.other
        tail = sum(comb(n, k) for k in range(min(self.first, self.other) + 1))
        return min(1.0, 2 * tail / (1 << n))


def pairs(first: Sequence[int], other: Sequence[int]) -> Pairs:
    """Of how many answers each model had right, by prompt."""
    both = list(zip(first, other, strict=True))
    return Pairs(sum(a > b for a, b in both), sum(a < b for a, b in both))


def significant(p: Sequence[float], level: float = LEVEL) -> list[bool]:
    """By Holm's correction: the k-th smallest of n, k from 0, is held against level / (n - k), up to the first that is
    above."""
    found, order = [False] * len(p), sorted(range(len(p)), key=lambda i: p[i])
    for k, i in enumerate(order):
        if p[i] > level / (len(p) - k):
            break
        found[i] = True
    return found
