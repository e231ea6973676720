"""Positions of three parts (time, height, width), which RoPE turns queries and keys by: equal for text, and those of a
grid for the rows of an image.

A sequence counts on from the largest part so far: the rows of an image take as many positions as its longer side, and
the token behind it stands there. So position and index in the sequence part at every image, by the rope delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]  # [n, 3]: time, height, width


@dataclass(frozen=True, eq=False)
class InputRows:
    """Rows of a call that are not tokens and enter the residual stream in the place of embeddings: those of an image.

    `first` is the row of the call where they begin, `embeddings` [n, D] what enters, and `positions` [n, 3] where they
    stand, counted from the position where text would have gone on.
    """

    first: int
    embeddings: NDArray[np.floating]
    positions: Positions

    def __len__(self) -> int:
        return len(self.positions)


def grid_positions(height: int, width: int) -> Positions:
    """Positions [height * width, 3] of an image's rows, line by line: (0, line, column)."""
    line, column = np.divmod(np.arange(height * width), width)
    return np.stack([np.zeros_like(line), line, column], axis=1)


def text_positions(start: int, count: int) -> Positions:
    """Positions [count, 3] of text from `start` on: its three parts are equal."""
    return np.repeat(start + np.arange(count)[:, None], 3, axis=1)


def next_position(positions: Positions, start: int = 0) -> int:
    """Where text goes on behind `positions` [n, 3]; `start` behind none. Less n, this is the rope delta."""
    return int(positions.max()) + 1 if len(positions) else start


def call_positions(start: int, count: int, inputs: Sequence[InputRows] = ()) -> Positions:
    """Positions [count, 3] of a call's rows, of which the first stands at `start`; `inputs` in their order."""
    parts, at = [], 0
    for rows in inputs:
        parts.append(text_positions(start, rows.first - at))
        start = next_position(parts[-1], start)
        parts.append(start + rows.positions)
        start = next_position(parts[-1], start)
        at = rows.first + len(rows)
    return np.concatenate([*parts, text_positions(start, count - at)])
