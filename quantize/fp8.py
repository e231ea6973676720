"""8-bit floats with one scale per block of 128 x 128 values, as the family's official FP8 checkpoints store them.

A value is E4M3(code) * scale, with the scales of `X.weight` in `X.weight_scale_inv` (which multiplies, despite its
name). E4M3 is the Open Compute Project's (OFP8, revision 1.0): a sign, 4 bits of exponent with bias 7, 3 bits of
mantissa, no infinities; 0x7F and 0xFF are NaN. A product with a BF16 scale has 12 significant bits, so fp32 holds it
exactly; with an F32 scale it is rounded once.
"""

import numpy as np
from numpy.typing import NDArray

DTYPE = "F8_E4M3"
BLOCK = 128
SCALE_SUFFIX = "_scale_inv"


def _values() -> NDArray[np.float32]:
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    magnitude = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8 + mantissa, exponent - 10))
    magnitude[codes & 127 == 127] = np.nan
    values: NDArray[np.float32] = np.where(codes < 128, magnitude, -magnitude).astype(np.float32)
    return values


VALUES = _values()  # by code


def scale_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the scales of a tensor [..., rows, cols]; blocks at the edges may be ragged."""
    return (*shape[:-2], *(-(-n // BLOCK) for n in shape[-2:]))


def scale_rows(first: int, count: int, rows: int) -> NDArray[np.intp]:
    """The row of the flattened scales for each of `count` rows of a flattened [..., rows, cols] from row `first` on."""
    row = np.arange(first, first + count)
    return row // rows * -(-rows // BLOCK) + row % rows // BLOCK
