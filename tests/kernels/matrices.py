"""Matrices in every tensor type, and arrays that start and stride where it is awkward."""

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local._core import kernels

BLOCKS = _core.block_types()
# Where the half-precision scales and mins stand in a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0],
    "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "MXFP4": [],
}  # fmt: skip
FLOATS = ["F32", "F16", "BF16"]
DTYPES = [*HALVES, *FLOATS]

Array = NDArray[np.float32]


def encoded(rng: np.random.Generator, dtype: str, rows: int, cols: int) -> NDArray[np.uint8]:
    """Every code equally likely, the extremes included; scales of either sign."""
    if dtype in FLOATS:
        values = rng.standard_normal((rows, cols)).astype(np.float32)
        if dtype == "F32":
            return values.view(np.uint8).ravel()
        if dtype == "F16":
            return values.astype(np.float16).view(np.uint8).ravel()
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).ravel()
    block, block_bytes = BLOCKS[dtype]
    data = rng.integers(0, 256, (rows * cols // block, block_bytes), dtype=np.uint8)
    for offset in HALVES[dtype]:
        scale = rng.uniform(-0.02, 0.02, len(data)).astype(np.float16)
        data[:, offset : offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    if dtype == "MXFP4":  # powers of two instead
        data[:, 0] = rng.integers(118, 124, len(data))
    return data.ravel()


class Matrix:
    """Weights as a file would hold them, decoded, and packed."""

    def __init__(self, rng: np.random.Generator, dtype: str, rows: int, cols: int, groups: int = 1) -> None:
        self.data, self.dtype, self.rows, self.cols, self.groups = (
            encoded(rng, dtype, rows, cols), dtype, rows, cols, groups,
        )  # fmt: skip
        self.values = _core.decode(self.data, dtype, rows * cols).reshape(rows, cols)

    def pack(self, device: kernels.Device) -> kernels.Weight:
        return device.pack(self.data, self.dtype, self.rows, self.cols, self.groups)


def ragged(rows: int, cols: int, shift: int = 1) -> Array:
    """Zeros whose rows are strided and start off any alignment."""
    return np.zeros((rows, cols + 5), np.float32)[:, shift : shift + cols]


def activations(rng: np.random.Generator, rows: int, cols: int) -> Array:
    """Blocks of very different size, and some of zeros."""
    x = ragged(rows, cols)
    scale = np.repeat(2.0 ** rng.integers(-6, 6, (rows, -(-cols // 32))), 32, axis=1)[:, :cols]
    x[:] = rng.standard_normal((rows, cols)) * scale
    x[rng.random(rows) < 0.2, :32] = 0
    return x


def product(device: kernels.Device, x: Array, *matrices: Matrix) -> list[Array]:
    outs = [ragged(len(x), m.rows) for m in matrices]
    device.matmul(x, [(out, m.pack(device)) for out, m in zip(outs, matrices, strict=True)])
    return outs


def cpu_quantised(x: Array) -> tuple[Array, Array]:
    """x [T, D] as the CPU quantises it, in fp64, and the size of a step of 8 bits at each element."""
    codes, scales, _ = kernels.quantise_rows("reference", x)
    values = (codes * scales[..., :1].astype(np.float64)).reshape(x.shape)
    return values, np.repeat(scales[..., 0].astype(np.float64), 32, axis=1)


def bits(x: Array) -> NDArray[np.uint32]:
    return np.ascontiguousarray(x).view(np.uint32)


def cols_of(dtype: str, blocks: int) -> int:
    return 7 * blocks if dtype in FLOATS else BLOCKS[dtype][0] * blocks
