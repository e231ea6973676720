"""Settings of the sampler and logits for them, of integers alone, so that they are the same everywhere."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = (41, 700, 5000)
STEPS = 16


def row(case: int, step: int, size: int) -> NDArray[np.float32]:
    """Logits [size] from -8 to 8, many of them equal."""
    x = np.arange(size, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(977 * case + 7919 * step + 1)
    x ^= x >> np.uint64(15)
    x *= np.uint64(2246822519)
    x ^= x >> np.uint64(13)
    return ((x % np.uint64(4001)).astype(np.float32) - 2000) / np.float32(250)


def settings() -> list[tuple[int, dict[str, Any]]]:
    """Vocabulary rows and options of `_core.Sampler`, case by case."""
    grid = itertools.product((0.0, 0.6, 1.0, 1.7), (0, 1, 20, 400), (1.0, 0.9), (0.0, 0.08))
    penalties: list[dict[str, Any]] = [
        {},
        {"presence_penalty": 1.5},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.7},
        {"repetition_penalty": 0.8, "presence_penalty": -0.5, "penalty_last_n": 5},
        {"frequency_penalty": 2.0, "penalty_last_n": 1, "logit_bias": {3: 4.5, 17: -2.0, 30: -math.inf}},
    ]
    cases = []
    for n, ((t, k, p, m), more) in enumerate(itertools.product(grid, penalties)):
        size = SIZES[n % len(SIZES)]
        options = {"temperature": t, "top_k": k, "top_p": p, "min_p": m, "seed": 1000 + n, "n_tokens_used": size - 3}
        cases.append((size, options | more))
    return cases
