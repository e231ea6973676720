"""One live sequence, and the marks it can go back to: what lets a conversation be read once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core

Logits = NDArray[np.float32]
Progress = Callable[[int, int], None]

CHUNK_TOKENS = 512


@dataclass(frozen=True)
class Mark:
    """A snapshot, its tokens [n], and the logits [V] that follow them."""

    snapshot: _core.Snapshot
    tokens: NDArray[np.int32]
    logits: Logits


class Timeline:
    """Brings one sequence to any prompt, from the furthest point already read.

    Attention can be cut anywhere, the running memory of the DeltaNet layers cannot (specification 2.9): so a prompt
    that is not a continuation of what the sequence holds starts from the longest mark that is a prefix of it.
    """

    def __init__(self, sequence: _core.Sequence, *, budget_bytes: int = 1 << 30) -> None:
        """`budget_bytes`: memory for marks beyond the newest; the one used longest ago goes first."""
        self._sequence = sequence
        self._budget_bytes = budget_bytes
        self._marks: list[Mark] = []
        self._logits: Logits | None = None

    def __len__(self) -> int:
        return len(self._sequence)

    def rewind(self, tokens: Sequence[int]) -> int:
        """Moves to the longest prefix of `tokens` [n] that was already read; returns its length."""
        wanted = np.asarray(tokens, dtype=np.int32)
        held = self._sequence.tokens
        if is_prefix(held, wanted) and (len(held) < len(wanted) or self._logits is not None):
            return len(held)
        usable = [mark for mark in self._marks if is_prefix(mark.tokens, wanted)]
        best = max(usable, key=lambda mark: len(mark.tokens), default=None)
        if best is None:
            self._sequence.truncate(0)
            self._logits = None
            return 0
        self._sequence.restore(best.snapshot)
        self._logits = best.logits
        self._marks.remove(best)
        self._marks.append(best)
        return len(best.tokens)

    def read(
        self, tokens: Sequence[int], marks: Sequence[int], progress: Progress = lambda done, total: None
    ) -> Logits:
        """Reads what is missing of `tokens` [n] after `rewind(tokens)`, leaving a mark at each position of `marks` it
        passes; returns the logits [V] that follow.

        Raises _core.InputError when they do not fit the context, _core.Cancelled after `cancel()`; the sequence then
        holds a prefix of `tokens`."""
        wanted = np.asarray(tokens, dtype=np.int32)
        at = len(self._sequence)
        stops = sorted({mark for mark in marks if at < mark < len(wanted)} | {len(wanted)})
        for stop in stops:
            while at < stop:
                end = min(at + CHUNK_TOKENS, stop)
                self._logits = None
                self._logits = self._sequence.append(wanted[at:end])[-1]
                at = end
                progress(at, len(wanted))
            if stop in marks:
                self.mark()
        assert self._logits is not None
        return self._logits

    def step(self, token: int) -> Logits:
        """Reads one more token; returns the logits [V] that follow it."""
        self._logits = None
        self._logits = self._sequence.append([token])[-1]
        return self._logits

    def mark(self) -> None:
        """Remembers this point, once."""
        assert self._logits is not None
        tokens = self._sequence.tokens
        if not any(np.array_equal(mark.tokens, tokens) for mark in self._marks):
            self._marks.append(Mark(self._sequence.snapshot(), tokens, self._logits))
            while len(self._marks) > 1 and sum(m.snapshot.n_bytes for m in self._marks) > self._budget_bytes:
                self._marks.pop(0)

    def cancel(self) -> None:
        """Stops the read in progress; may be called from a signal handler or another thread."""
        self._sequence.cancel()


def is_prefix(short: NDArray[np.int32], long: NDArray[np.int32]) -> bool:
    return len(short) <= len(long) and bool(np.array_equal(short, long[: len(short)]))
