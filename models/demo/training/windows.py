"""Natural text to training batches: windows of the token ids that `corpus` writes, in which every token counts."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .corpus import WINDOWS

LENGTHS = [512, 768, 1024]


class Windows:
    """Endless batches of one length each: ids [B,T] from anywhere in the text, and a target mask [B,T] of all."""

    def __init__(self, folder: Path, seed: int, tokens: int) -> None:
        self.rng, self.tokens = Random(seed), tokens
        self.ids = np.load(folder / "train.npy", mmap_mode="r")
        self.apart = np.load(folder / "held-out.npy").reshape(-1, WINDOWS, LENGTHS[-1])[:, 0]

    def next(self, stage: float) -> tuple[Tensor, Tensor]:
        """The next batch; windows are alike from the first step to the last, whatever the `stage`."""
        length = self.rng.choice(LENGTHS)
        rows = max(2, self.tokens // length)  # one row alone would be compiled by itself
        starts = [self.rng.randrange(len(self.ids) - length) for _ in range(rows)]
        return _all_counting(np.stack([self.ids[start : start + length] for start in starts]))

    def held_out(self) -> tuple[Tensor, Tensor]:
        """A window of each kind of text, of documents that are not trained on."""
        return _all_counting(self.apart)


def _all_counting(ids: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(ids.astype(np.int64)), torch.ones(ids.shape, dtype=torch.bool)
