"""Logits of one pass in an .npy file: [windows, tokens of a window, V], so that the file itself says its windows.

What other programs write as [T, V] is one window.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen35_local.engine import npy_file
from qwen35_local.errors import InputError

Spans = list[tuple[int, int, int]]  # as `quality.windows` lists them


def shape(spans: Spans, n_vocab: int) -> tuple[int, int, int]:
    start, end, _ = spans[0]
    return len(spans), end - start, n_vocab


class SavedLogits:
    """A `quality.LogitSource` that goes through a file once. Raises InputError, also where the file has other windows
    than `spans`; OSError."""

    def __init__(self, path: Path, spans: Spans) -> None:
        saved = npy_file.mapped(path, "logits [windows, tokens, vocabulary]", (2, 3), "f")
        self._saved = saved if saved.ndim == 3 else saved[None]
        self._window = -1
        self._next = 0
        self.n_vocab = int(saved.shape[-1])
        if self._saved.shape != shape(spans, self.n_vocab):
            raise InputError(
                f"{path}: logits of {_said(self._saved.shape)}; this text and --ctx make {_said(shape(spans, 0))}; "
                f"give the text and --ctx that the logits were saved with"
            )

    def begin(self) -> None:
        self._window += 1
        self._next = 0

    def read(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        rows = self._saved[self._window, self._next : self._next + len(tokens)]
        self._next += len(tokens)
        return np.asarray(rows, dtype=np.float32)


def _said(shape: tuple[int, ...]) -> str:
    count, length, _ = shape
    return f"{count:,} window{'s' * (count != 1)} of {length:,} tokens"
