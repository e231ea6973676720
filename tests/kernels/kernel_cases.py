"""Devices, arrays as awkward as the kernels allow, cuts of a sequence into calls, and what "the same" means: on one
device bits, whatever the batch, the cut or the threads; between two devices a tolerance."""

from functools import cache

import numpy as np

from qwen35_local._core import kernels

U = 2.0**-24  # one rounding to fp32, relative


DEVICES = kernels.devices()
REFERENCE = "cpu-reference"

# Between devices: the largest difference, relative to the largest value of the row. Sums may be taken in another order,
# and activations that one device quantises to 8 bits another may not. The instruction sets of the CPU are one device:
# between them no bit differs.
ACROSS_DEVICES = {"fp32": 2.0**-14, "quantised": 2.0**-6}


@cache
def device_of(name: str, threads: int) -> kernels.Device:
    return kernels.Device(name, threads)


def rows(rng: np.random.Generator, count: int, cols: int, scale: float = 1.0, gap: int = 3) -> np.ndarray:
    """fp32 [count, cols], four bytes off every alignment, `gap` floats between the rows."""
    buffer = np.full(count * (cols + gap) + 1, np.nan, np.float32)
    view = buffer[1:].reshape(count, cols + gap)[:, :cols]
    view[...] = rng.standard_normal((count, cols)) * scale
    return view


def vector(rng: np.random.Generator, count: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(count) * scale).astype(np.float32)


def empty(count: int, cols: int) -> np.ndarray:
    return np.full((count, cols), np.nan, np.float32)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def agree(name: str, ours: np.ndarray, reference: np.ndarray, arithmetic: str = "fp32") -> bool:
    """Whether results [rows, cols] of a device are those of the scalar kernels."""
    if name.startswith("cpu-"):
        return same_bits(ours, reference)
    largest = np.abs(reference).max(axis=1, keepdims=True)
    return bool(np.all(np.abs(ours - reference) <= ACROSS_DEVICES[arithmetic] * largest))


def cuts(rng: np.random.Generator, total: int) -> list[list[int]]:
    """Ways to cut `total` tokens into calls: all at once, one by one, and at random with many short pieces."""
    ways = [[total], [1] * total, [total - 1, 1], [1, total - 1], [2] * (total // 2) + [total % 2] * (total % 2)]
    for most in (3, 7, 40):
        pieces: list[int] = []
        while sum(pieces) < total:
            pieces.append(int(min(rng.integers(1, most + 1), total - sum(pieces))))
        ways.append(pieces)
    return [[n for n in way if n > 0] for way in ways]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def rms(x: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
