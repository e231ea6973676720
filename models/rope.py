"""Rotary position embedding of the family: frequencies, their extension by YaRN, and the part of a position that turns
each pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass

import numpy as np
from numpy.typing import NDArray

from qwen35_local.models import bounds
from qwen35_local.models.bounds import refuse


def default_magnitude(factor: float) -> float:
    """YaRN's multiplier of cos and sin, `0.1 ln(factor) + 1` (Peng et al. 2023, section 3.4)."""
    return 0.1 * math.log(factor) + 1.0


@dataclass(frozen=True, kw_only=True)
class Yarn:
    """Context extension by YaRN (Peng et al. 2023): low frequencies are divided by `factor`, high ones kept."""

    factor: float
    original_context_tokens: int
    beta_fast: float = 32.0  # rotations over the original context above which a frequency is kept
    beta_slow: float = 1.0  # rotations below which it is divided by `factor`
    attention_factor: float = 1.0  # multiplies cos and sin on top of default_magnitude(factor)

    keys: InitVar[Mapping[str, str] | None] = None  # what the source calls the fields, for errors

    def __post_init__(self, keys: Mapping[str, str] | None) -> None:
        bounds.check("factor", self.factor, "yarn.factor")
        bounds.check("context_tokens", self.original_context_tokens, "yarn.original_context_tokens")
        bounds.check("beta", self.beta_fast, "yarn.beta_fast")
        bounds.check("beta", self.beta_slow, "yarn.beta_slow")
        bounds.check("magnitude", self.attention_factor, "yarn.attention_factor")
        if self.beta_fast <= self.beta_slow:
            name = (keys or {}).get("beta_fast", "yarn.beta_fast")
            raise refuse(name, self.beta_fast, f"more than beta_slow = {self.beta_slow:g}")

    @property
    def magnitude(self) -> float:
        """What multiplies cos and sin of queries and keys."""
        return self.attention_factor * default_magnitude(self.factor)


def inverse_frequencies(width: int, theta: float, yarn: Yarn | None = None) -> NDArray[np.float64]:
    """Radians per position of each of the width / 2 pairs, `theta^(-2i / width)`; with YaRN blended towards 1 / factor.

    The blend runs between the pairs that turn `beta_fast` and `beta_slow` times over the original context, rounded
    outwards to whole pairs (Peng et al. 2023, section 3.2, as transformers and llama.cpp compute it).
    """
    pairs = np.arange(width // 2, dtype=np.float64)
    kept = theta ** (-2.0 * pairs / width)
    if yarn is None:
        return kept

    def pair_turning(times: float) -> float:
        return width * math.log(yarn.original_context_tokens / (times * 2.0 * math.pi)) / (2.0 * math.log(theta))

    low = max(math.floor(pair_turning(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_turning(yarn.beta_slow)), width - 1)
    ramp = np.clip((pairs - low) / max(high - low, 0.001), 0.0, 1.0)
    return kept * (1.0 - ramp) + kept / yarn.factor * ramp


def rope_axes(sections: Sequence[int], pairs: int) -> NDArray[np.int64]:
    """Which part of a position turns each pair, [pairs]: 0 time, 1 height, 2 width (interleaved M-RoPE).

    Pairs take turns as time, height, width, ... while their section lasts, pair i of part p for i < 3 sections[p]; what
    is left follows time. Bai et al. 2025 (Qwen3-VL), as transformers and llama.cpp lay it out.
    """
    pair = np.arange(pairs)
    part = pair % 3
    return np.where(pair < 3 * np.asarray(sections)[part], part, 0)
