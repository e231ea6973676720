"""Every block type against the `gguf` package, an independent reader, bit for bit."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from qwen35_local import _core
from qwen35_local.errors import InputError

TYPES = sorted(_core.block_types())
# Where the half-precision scales of a block begin.
SCALES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0],
    "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0],
}  # fmt: skip
ODD_HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x7D01]


def reference(blocks: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(gguf.quants.dequantize(blocks, Type[name]), dtype=np.float32).ravel()


def assert_same_bits(ours: np.ndarray, theirs: np.ndarray) -> None:
    """The payload of a NaN may differ."""
    assert ours.shape == theirs.shape
    same = (ours.view(np.uint32) == theirs.view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs))
    assert same.all(), f"first difference at {np.argmin(same)}"


def test_sizes_are_those_of_the_format() -> None:
    for name, (values, n_bytes) in _core.block_types().items():
        assert gguf.GGML_QUANT_SIZES[Type[name]] == (values, n_bytes)
    assert len(TYPES) == 21


@pytest.mark.parametrize("name", TYPES)
def test_random_blocks(name: str) -> None:
    values, n_bytes = _core.block_types()[name]
    rng = np.random.default_rng(11)
    count = 4096 if values == 1 else 512
    blocks = rng.integers(0, 256, (count, n_bytes), dtype=np.uint8)
    # Half of the blocks with scales as real files have them, the other half as they fall.
    for at in SCALES.get(name, []):
        half = rng.normal(0, 0.01, count // 2).astype(np.float16)
        blocks[: count // 2, at : at + 2] = half.view(np.uint8).reshape(-1, 2)
    assert_same_bits(_core.decode(blocks.ravel(), name, count * values), reference(blocks, name))


@pytest.mark.parametrize("name", sorted(SCALES))
def test_odd_scales(name: str) -> None:
    values, n_bytes = _core.block_types()[name]
    rng = np.random.default_rng(12)
    blocks = rng.integers(0, 256, (len(ODD_HALVES) ** len(SCALES[name]), n_bytes), dtype=np.uint8)
    halves = np.array(ODD_HALVES, np.uint16)
    for k, at in enumerate(SCALES[name]):
        chosen = halves[np.arange(len(blocks)) // len(halves) ** k % len(halves)]
        blocks[:, at : at + 2] = chosen.view(np.uint8).reshape(-1, 2)
    assert_same_bits(_core.decode(blocks, name, len(blocks) * values), reference(blocks, name))


@pytest.mark.parametrize(("name", "first", "bits"), [("IQ2_XXS", 2, 8), ("IQ2_XS", 2, 9), ("IQ3_XXS", 2, 8)])
def test_every_point_of_a_grid(name: str, first: int, bits: int) -> None:
    """Each code once, which random blocks may miss; the 1,024 points of IQ2_S and 512 of IQ3_S are met there."""
    values, n_bytes = _core.block_types()[name]
    codes = np.arange(1 << bits, dtype=np.uint16 if bits > 8 else np.uint8).view(np.uint8)
    blocks = np.zeros((len(codes) // 8, n_bytes), np.uint8)
    blocks[:, :2] = np.array([1.0], np.float16).view(np.uint8)
    blocks[:, first : first + 8] = codes.reshape(-1, 8)
    assert_same_bits(_core.decode(blocks, name, len(blocks) * values), reference(blocks, name))


def test_every_exponent_of_mxfp4() -> None:
    blocks = np.tile(np.arange(16, dtype=np.uint8) * 17, (256, 1))
    blocks = np.concatenate([np.arange(256, dtype=np.uint8)[:, None], blocks], axis=1)
    assert_same_bits(_core.decode(blocks, "MXFP4", 256 * 32), reference(blocks, "MXFP4"))


def test_every_half_and_bfloat16() -> None:
    words = np.arange(65536, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        assert_same_bits(_core.decode(words.view(np.uint8), "F16", 65536), words.view(np.float16).astype(np.float32))
    assert_same_bits(
        _core.decode(words.view(np.uint8), "BF16", 65536), (words.astype(np.uint32) << 16).view(np.float32)
    )


def test_unaligned_source() -> None:
    values, n_bytes = _core.block_types()["Q4_K"]
    blocks = np.random.default_rng(13).integers(0, 256, (3, n_bytes), dtype=np.uint8)
    room = np.zeros(blocks.size + 1, np.uint8)
    room[1:] = blocks.ravel()
    assert_same_bits(_core.decode(room[1:], "Q4_K", 3 * values), reference(blocks, "Q4_K"))


def test_empty() -> None:
    for name in TYPES:
        assert _core.decode(np.zeros(0, np.uint8), name, 0).shape == (0,)


@pytest.mark.parametrize(
    ("n_bytes", "dtype", "n_values"),
    [(144, "Q4_K", 255), (143, "Q4_K", 256), (144, "Q4_K", 512), (18, "Q4_0", -32), (4, "F32", 2**62), (4, "Q9_9", 1)],
)
def test_refuses_what_does_not_fit(n_bytes: int, dtype: str, n_values: int) -> None:
    with pytest.raises(InputError):
        _core.decode(np.zeros(n_bytes, np.uint8), dtype, n_values)
