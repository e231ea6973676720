"""What a sequence is to hold: token ids, and in the place of some of them rows that are not tokens, those of an image.

Rows are told apart by their content: a token by its id, a row that is none by the digest of its block. Two images have
the same ids, so nothing that is kept may be looked up by ids alone; it is looked up by keys, one number a row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import count
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core

Tokens: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int32]
"""[n]: the id of a token; of the rows of a block that is none, one negative number, the same while the process runs."""

Run: TypeAlias = tuple[int, int, int, tuple[int, int, int], bytes]
"""A block: its first row's place, how many rows it has, how many positions they take, and its digest."""

_numbers: dict[tuple[int, int, bytes], int] = {}
_fresh = count(-1, -1)


def keys(tokens: Tokens, runs: Iterable[Run]) -> Keys:
    """The keys of rows [n]: `tokens` itself where there are no `runs`."""
    found = tokens
    for first, rows, advance, _, digest in runs:
        if found is tokens:
            found = tokens.copy()
        identity = (rows, advance, digest)
        number = _numbers.get(identity)
        if number is None:  # two threads may get here; the first to enter a number wins
            number = _numbers.setdefault(identity, next(_fresh))
        found[max(first, 0) : first + rows] = number
    return found


def digest(tokens: Tokens, runs: Iterable[Run] = ()) -> str:
    """32 digits that stand for the content of rows [n], the same in every process."""
    content = sha256(tokens.astype("<i4", copy=False).tobytes())
    for first, rows, advance, _, block in runs:
        content = sha256(content.digest() + np.array([first, rows, advance], "<i8").tobytes() + block)
    return content.hexdigest()[:32]


def input_rows(
    embeddings: NDArray[np.float32], positions: NDArray[np.int32], source: bytes | None = None
) -> _core.InputRows:
    """Rows [n, D] that are not tokens, at `positions` [n, 3] (time, height, width), counted from the one where text
    would have gone on. `source`: what the rows were made from and how, where that is at hand; they are known by it
    and their positions, else by their own bytes. Raises InputError for what cannot be such rows."""
    places = np.ascontiguousarray(positions, "<i4")
    content = sha256(b"rows" if source is None else b"source")
    content.update(sha256(places.tobytes()).digest())
    content.update(sha256(np.ascontiguousarray(embeddings, "<f4").tobytes() if source is None else source).digest())
    return _core.InputRows(embeddings, positions=places, digest=content.digest())


@dataclass(frozen=True, eq=False)
class ModelInput:
    """`tokens` [n]; `inputs`: blocks and where their first row stands, in their order. A part may begin or end within a
    block; one that it begins in stands at a negative place."""

    tokens: Tokens
    inputs: tuple[tuple[int, _core.InputRows], ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def runs(self) -> list[Run]:
        return [(first, len(rows), rows.advance, rows.last, rows.digest) for first, rows in self.inputs]

    @cached_property
    def keys(self) -> Keys:
        return keys(self.tokens, self.runs)

    @property
    def digest(self) -> str:
        return digest(self.tokens, self.runs)

    def part(self, first: int, last: int) -> "ModelInput":
        """Rows [first, last)."""
        inputs = tuple((at - first, rows) for at, rows in self.inputs if at < last and at + len(rows) > first)
        return ModelInput(self.tokens[first:last], inputs)
