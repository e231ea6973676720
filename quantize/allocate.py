"""Which tensors get more bits than the rest, when so many bytes may be spent: where a byte takes away the most loss.

The loss of a tensor is taken as its sensitivity times the relative squared error of its type. Source: rate-distortion
by Lagrange multipliers, in greedy steps along each tensor's convex hull (Shoham and Gersho 1988).
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen35_local import _core

# Relative squared error, in 10^-4, of Gaussian weights as this package rounds them (docs/quality.md).
ERRORS = {
    "Q3_K": 215.0,
    "Q4_0": 65.3,
    "IQ4_XS": 54.5,
    "IQ4_NL": 53.7,
    "Q4_K": 48.7,
    "Q4_1": 48.7,
    "Q5_0": 16.1,
    "Q5_K": 11.9,
    "Q6_K": 2.93,
    "Q8_0": 0.26,
    "BF16": 0.0,
    "F16": 0.0,
    "F32": 0.0,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A tensor that may have any of `types`, which have rising numbers of bits."""

    name: str
    n_values: int
    sensitivity: float  # loss per value and unit of relative squared error
    types: tuple[str, ...]


def allocate(choices: Sequence[Choice], budget: int, errors: Mapping[str, float] = ERRORS) -> dict[str, str]:
    """Tensor name to type: together at most `budget` bytes if the first types of all leave any. Equal steps go by the
    order of the choices."""
    types = {choice.name: 0 for choice in choices}
    left = budget - sum(n_bytes(choice.types[0], choice.n_values) for choice in choices)
    waiting: list[tuple[float, int, int]] = []  # (-loss taken away per byte, choice, place of the type)

    def offer(index: int) -> None:
        found = _best_step(choices[index], types[choices[index].name], errors)
        if found is not None:
            heapq.heappush(waiting, (-found[0], index, found[1]))

    for index in range(len(choices)):
        offer(index)
    while waiting:
        _, index, place = heapq.heappop(waiting)
        choice = choices[index]
        current = types[choice.name]
        cost = n_bytes(choice.types[place], choice.n_values) - n_bytes(choice.types[current], choice.n_values)
        if cost <= left:
            left -= cost
            types[choice.name] = place
            offer(index)
    return {choice.name: choice.types[types[choice.name]] for choice in choices}


def n_bytes(dtype: str, n_values: int) -> int:
    """Of so many values, whole blocks."""
    block, block_bytes = _core.block_types()[dtype]
    return n_values // block * block_bytes


def _best_step(choice: Choice, current: int, errors: Mapping[str, float]) -> tuple[float, int] | None:
    """The type above the current one that takes away the most loss per byte, and how much."""
    best: tuple[float, int] | None = None
    for place in range(current + 1, len(choice.types)):
        taken = choice.sensitivity * (errors[choice.types[current]] - errors[choice.types[place]]) * choice.n_values
        cost = n_bytes(choice.types[place], choice.n_values) - n_bytes(choice.types[current], choice.n_values)
        if cost > 0 and taken > 0 and (best is None or taken / cost > best[0]):
            best = (taken / cost, place)
    return best
