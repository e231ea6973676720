"""Prompts with images for the models of tests/golden_models.py, and what transformers computes for them.

The rows of the images are drawn by numpy from the model's name; positions and logits are in tests/golden/mrope, see
PROVENANCE.md there.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from golden_models import CONFIGS, random_weights, seed_of
from numpy.typing import NDArray

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.positions import InputRows, grid_positions

MROPE = Path(__file__).parent / "golden" / "mrope"

NAMES = ["dense-ratio1-tied", "moe-ratio2"]
MERGE = 2  # patches of a side that become one row
IMAGE_PAD = 511
# Tokens of text, and patches (height, width) of images: one taller than wide and across a chunk of the delta rule, one
# much wider than tall, and one row alone. Behind the prompt text goes on.
PROMPT: list[int | tuple[int, int]] = [50, (14, 10), 4, (4, 40), 1, (2, 2), 9]
N_TOKENS = 50 + 7 * 5 + 4 + 2 * 20 + 1 + 1 + 9
N_DECODED = 3  # tokens at the end that are given one by one


@dataclass(frozen=True)
class GoldenImages:
    """A model, a prompt of tokens [T] with images in it, and what it must compute in fp64: `positions` [T, 3],
    `rope_delta` of them, and `logits` [R, V] at `rows` [R]."""

    config: ModelConfig
    weights: dict[str, NDArray[np.float32]]
    tokens: list[int]
    inputs: list[InputRows]
    positions: NDArray[np.int64]
    rope_delta: int
    rows: NDArray[np.int64]
    logits: NDArray[np.float64]


def prompt(name: str) -> tuple[list[int], list[InputRows]]:
    """The prompt's tokens [T], and the rows that stand in for those of its images."""
    stream = np.random.RandomState([seed_of(name), 2])
    tokens: list[int] = []
    inputs = []
    for part in PROMPT:
        if isinstance(part, int):
            tokens += stream.randint(0, IMAGE_PAD, part).tolist()
            continue
        positions = grid_positions(part[0] // MERGE, part[1] // MERGE)
        rows = stream.random_sample((len(positions), CONFIGS[name].hidden)).astype(np.float32) - np.float32(0.5)
        inputs.append(InputRows(len(tokens), rows, positions))
        tokens += [IMAGE_PAD] * len(positions)
    return tokens, inputs


def golden_images(name: str) -> GoldenImages:
    tokens, inputs = prompt(name)
    with np.load(MROPE / f"{name}.npz") as stored:
        arrays = dict(stored)
    weights = random_weights(CONFIGS[name], seed_of(name))
    delta = int(arrays["rope_delta"])
    return GoldenImages(
        CONFIGS[name], weights, tokens, inputs, arrays["positions"], delta, arrays["rows"], arrays["logits"]
    )
