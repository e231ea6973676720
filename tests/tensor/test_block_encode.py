"""Encoders: rounding error against ggml's, special blocks, refusals, and agreement with the `gguf` package's reader."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from qwen35_local import _core
from qwen35_local.errors import InputError

QUANTISED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
ENCODERS = ["F32", "F16", "BF16", *QUANTISED]

# Relative RMS error of ggml 0.25.3 on Gaussian weights in percent; Q5_1 (not in that table) as a multiple of Q4_1.
GGML_ERROR = {
    "Q4_0": 8.60, "Q4_1": 7.83, "Q5_0": 4.27, "Q5_1": 3.80, "Q8_0": 0.535, "Q3_K": 15.08, "Q4_K": 7.14, "Q5_K": 3.61,
    "Q6_K": 1.78, "IQ4_NL": 7.61, "IQ4_XS": 7.67,
}  # fmt: skip
# With importance: log-normal (1.2) per column, the same table.
GGML_WEIGHTED_ERROR = {"Q4_0": 7.50, "Q4_1": 6.02, "IQ4_NL": 6.76, "IQ4_XS": 6.84, "Q4_K": 6.12, "Q5_0": 3.71,
                       "Q3_K": 12.98, "Q5_K": 3.14, "Q6_K": 1.56}  # fmt: skip
# A reader sees |error| below this part of the group's largest magnitude (half a step, and a little for the search).
STEP = {"Q8_0": 0.008, "Q4_0": 0.10, "Q4_1": 0.10, "Q5_0": 0.05, "Q5_1": 0.05, "Q3_K": 0.20, "Q4_K": 0.10,
        "Q5_K": 0.05, "Q6_K": 0.03, "IQ4_NL": 0.15, "IQ4_XS": 0.15}  # fmt: skip


def decoded(values: np.ndarray, dtype: str, **options: object) -> np.ndarray:
    encoded = _core.encode(values, dtype, **options)
    return _core.decode(encoded.ravel(), dtype, values.size).reshape(values.shape)


def relative_error(values: np.ndarray, decoded: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    x = values.astype(np.float64)
    return 100 * float(np.sqrt((weight * (x - decoded) ** 2).sum() / (weight * x**2).sum()))


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((256, 4096), dtype=np.float32)


@pytest.mark.parametrize("dtype", sorted(GGML_ERROR))
def test_error_is_no_worse_than_ggml(gaussian: np.ndarray, dtype: str) -> None:
    assert relative_error(gaussian, decoded(gaussian, dtype)) <= GGML_ERROR[dtype] + 0.005


@pytest.mark.parametrize("dtype", sorted(GGML_WEIGHTED_ERROR))
def test_importance_lowers_the_weighted_error(gaussian: np.ndarray, dtype: str) -> None:
    importance = np.exp(1.2 * np.random.default_rng(6).standard_normal(4096)).astype(np.float32)
    plain = relative_error(gaussian, decoded(gaussian, dtype), importance)
    weighted = relative_error(gaussian, decoded(gaussian, dtype, importance=importance), importance)
    assert weighted < plain
    assert weighted <= GGML_WEIGHTED_ERROR[dtype] * 1.01  # another draw of importances than the table's


@pytest.mark.parametrize("dtype", QUANTISED)
def test_the_gguf_package_reads_the_same(dtype: str) -> None:
    values = np.random.default_rng(7).standard_t(5, (3, 512)).astype(np.float32) * 0.02
    encoded = _core.encode(values, dtype)
    theirs = gguf.quants.dequantize(encoded, Type[dtype])
    assert encoded.shape == (3, 512 // _core.block_types()[dtype][0] * _core.block_types()[dtype][1])
    assert (theirs.view(np.uint32) == decoded(values, dtype).view(np.uint32)).all()


@pytest.mark.parametrize("dtype", ENCODERS)
def test_same_bits_for_any_threads_and_rows(dtype: str) -> None:
    values = np.random.default_rng(8).standard_normal((37, 1280), dtype=np.float32)
    importance = np.random.default_rng(9).random(1280, dtype=np.float32)
    once = _core.encode(values, dtype, importance=importance, threads=1)
    assert (_core.encode(values, dtype, importance=importance, threads=3) == once).all()
    rows = [_core.encode(values[i : i + 1], dtype, importance=importance) for i in range(37)]
    assert (np.concatenate(rows) == once).all()
    assert (_core.encode(values, dtype, importance=importance * np.float32(64)) == once).all()


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL"])
def test_ragged_tiles(dtype: str) -> None:
    """Blocks are searched eight at a time; a row of 11 blocks holds the same blocks as 11 rows of one."""
    values = np.random.default_rng(10).standard_normal((1, 352), dtype=np.float32)
    assert (_core.encode(values, dtype).ravel() == _core.encode(values.reshape(11, 32), dtype).ravel()).all()


def test_f16_and_bf16_round_to_nearest_even() -> None:
    rng = np.random.default_rng(14)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    halves = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    values = np.concatenate([bits.view(np.float32), halves, ties, np.nextafter(ties, 0), np.nextafter(ties, 1e9)])
    values = values[np.isfinite(values)]
    fits = values[np.abs(values) <= 65504].reshape(1, -1)
    assert (_core.encode(fits, "F16").view(np.uint16) == fits.astype(np.float16).view(np.uint16)).all()
    fits = values[np.abs(values) <= 3.38e38].reshape(1, -1)
    assert (_core.encode(fits, "BF16") == gguf.quants.quantize(fits, Type.BF16)).all()


@pytest.mark.parametrize("dtype", ENCODERS)
def test_zeros_stay_zeros(dtype: str) -> None:
    values = np.zeros((2, 512), np.float32)
    values[1, 256:] = 0.5  # a zero block beside one that is not
    out = decoded(values, dtype)
    assert (out[values == 0] == 0).all()


@pytest.mark.parametrize("dtype", QUANTISED)
@pytest.mark.parametrize("level", [1.0, -1.0, 0.013, -0.013, 60000.0, -60000.0])
def test_constant_blocks(dtype: str, level: float) -> None:
    out = decoded(np.full((1, 512), level, np.float32), dtype)
    assert np.abs(out / level - 1).max() < 0.006


@pytest.mark.parametrize("dtype", QUANTISED)
def test_single_outlier(dtype: str) -> None:
    values = np.zeros((1, 256), np.float32)
    values[0, 77] = -3.0
    out = decoded(values, dtype)
    assert abs(out[0, 77] + 3) < 0.02
    assert np.abs(np.delete(out[0], 77)).max() < 0.03  # the IQ4 levels have no zero: 1 / 127 of the outlier is nearest


@pytest.mark.parametrize("dtype", QUANTISED)
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-8, 1e-20, 1e-38, 1e-44])
def test_small_values(dtype: str, size: float) -> None:
    """Where half-precision scales run out of digits and then vanish, the result is never worse than zeros."""
    values = np.random.default_rng(15).standard_normal((4, 512)).astype(np.float32) * np.float32(size)
    out = decoded(values, dtype).astype(np.float64)
    assert np.isfinite(out).all()
    x = values.astype(np.float64)
    assert ((out - x) ** 2).sum() <= (x**2).sum() * (1 + 1e-6)


@pytest.mark.parametrize("dtype", QUANTISED)
def test_ranges_of_any_offset(dtype: str) -> None:
    rng = np.random.default_rng(16)
    for offset in (-10.0, -1.0, 1.0, 10.0, 1000.0):
        values = (rng.standard_normal((4, 256)) + offset).astype(np.float32)
        out = decoded(values, dtype)
        assert np.abs(out - values).max() <= STEP[dtype] * np.abs(values).max()


@pytest.mark.parametrize("dtype", QUANTISED)
def test_importance_without_information(dtype: str) -> None:
    values = np.random.default_rng(17).standard_normal((2, 512), dtype=np.float32)
    even = _core.encode(values, dtype)
    assert (_core.encode(values, dtype, importance=np.zeros(512, np.float32)) == even).all()
    assert (_core.encode(values, dtype, importance=np.full(512, 4.0, np.float32)) == even).all()
    some = np.zeros(512, np.float32)
    some[::3] = 1e-30
    some[5] = 1e30
    assert np.isfinite(decoded(values, dtype, importance=some)).all()


@pytest.mark.parametrize("dtype", ENCODERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(dtype: str, bad: float) -> None:
    values = np.zeros((5, 512), np.float32)
    values[3, 300] = bad
    with pytest.raises(InputError, match="row 3, column 300"):
        _core.encode(values, dtype)


def test_refuses_what_half_precision_cannot_hold() -> None:
    values = np.full((2, 256), 65504.0, np.float32)
    for dtype in ENCODERS:
        assert np.isfinite(decoded(values, dtype)).all()
    values[1, 9] = -65536.0
    for dtype in ["F16", *QUANTISED]:
        with pytest.raises(InputError, match=r"row 1, column 9 .*65504"):
            _core.encode(values, dtype)
    assert decoded(values, "BF16")[1, 9] == -65536.0
    with pytest.raises(InputError, match="column 0"):
        _core.encode(np.full((1, 1), np.finfo(np.float32).max, np.float32), "BF16")


def test_refuses_bad_arguments() -> None:
    row = np.zeros((1, 256), np.float32)
    for dtype in ("Q2_K", "IQ3_S", "Q7_Z"):
        with pytest.raises(InputError):
            _core.encode(row, dtype)
    with pytest.raises(InputError, match="blocks of 256"):
        _core.encode(np.zeros((1, 288), np.float32), "Q4_K")
    for importance in (np.zeros(255, np.float32), np.full(256, -1, np.float32), np.full(256, np.nan, np.float32)):
        with pytest.raises(InputError, match="importance"):
            _core.encode(row, "Q4_K", importance=importance)
    for threads in (-1, 10**9):
        with pytest.raises(InputError, match="threads"):
            _core.encode(row, "Q4_K", threads=threads)


def test_shapes() -> None:
    assert _core.encode(np.zeros((0, 256), np.float32), "Q4_K").shape == (0, 144)
    assert _core.encode(np.zeros((3, 0), np.float32), "Q4_K").shape == (3, 0)
    assert _core.encode(np.zeros(256, np.float32), "Q4_K").shape == (144,)
    experts = np.random.default_rng(18).standard_normal((2, 3, 256), dtype=np.float32)
    assert (_core.encode(experts, "Q6_K") == _core.encode(experts.reshape(6, 256), "Q6_K").reshape(2, 3, 210)).all()
