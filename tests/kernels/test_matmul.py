"""Products with packed weights: every format on every device, against the scalar kernels and against fp64."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, agree, device_of, same_bits
from matrices import DTYPES, FLOATS, Matrix, activations, bits, cols_of, cpu_quantised, product, ragged

from qwen35_local._core import kernels
from qwen35_local.errors import FormatError, InputError


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (33, 1), (64, 1), (3 * 40, 3)])
def test_packed_rows_read_back(dtype: str, rows: int, groups: int, name: str) -> None:
    rng = np.random.default_rng(1)
    device, matrix = device_of(name, 2), Matrix(rng, dtype, rows, cols_of(dtype, 3), groups)
    order, out = rng.permutation(rows), ragged(rows, matrix.cols)
    device.embed(out, matrix.pack(device), order.tolist())
    assert agree(name, out, matrix.values[order])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_table_read_back(dtype: str, name: str) -> None:
    rng = np.random.default_rng(1)
    device, matrix = device_of(name, 2), Matrix(rng, dtype, 40, cols_of(dtype, 3))
    table, order = device.pack_table(matrix.data, dtype, 40, matrix.cols), rng.permutation(40)
    for out in (ragged(40, matrix.cols), np.zeros((40, matrix.cols), np.float32)):
        device.embed(out, table, order.tolist())
        assert agree(name, out, matrix.values[order])


def test_more_rows_of_a_table_than_are_on_their_way_at_a_time(name: str) -> None:
    rng = np.random.default_rng(2)
    device, matrix = device_of(name, 2), Matrix(rng, "F32", 40, 96)
    order = np.tile(rng.permutation(40), 1200)
    out = np.zeros((len(order), 96), np.float32)
    device.embed(out, device.pack_table(matrix.data, "F32", 40, 96), order.tolist())
    assert out.nbytes > 16 << 20
    assert same_bits(out, matrix.values[order])


def test_a_table_beside_a_card_is_no_matrix() -> None:
    if "cuda" not in kernels.devices():
        pytest.skip("no CUDA device")
    device, matrix = device_of("cuda", 1), Matrix(np.random.default_rng(1), "Q4_0", 40, 64)
    with pytest.raises(InputError, match="in the layout 'a table beside CUDA'"):
        device.matmul(ragged(2, 64), [(ragged(2, 40), device.pack_table(matrix.data, "Q4_0", 40, 64))])


@pytest.mark.parametrize("is_table", [False, True])
def test_input_rows_stand_in_for_rows_of_the_table(name: str, is_table: bool) -> None:
    rng = np.random.default_rng(12)
    device, matrix = device_of(name, 2), Matrix(rng, "F32", 40, 96)
    order, out, rows = rng.permutation(40), ragged(40, 96), activations(rng, 3, 96)
    expected = matrix.values[order]
    expected[[0, 17, 39]] = rows
    table = device.pack_table(matrix.data, "F32", 40, 96) if is_table else matrix.pack(device)
    device.embed(out, table, order.tolist(), list(zip([0, 17, 39], rows, strict=True)))
    assert same_bits(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (33, 1), (64, 1), (3 * 40, 3)])
def test_panels_of_the_cpu_are_as_small_as_the_blocks(dtype: str, rows: int, groups: int) -> None:
    matrix = Matrix(np.random.default_rng(1), dtype, rows, cols_of(dtype, 3), groups)
    packed = matrix.pack(device_of(REFERENCE, 2))
    panels = groups * -(-(rows // groups) // 32)
    assert packed.n_bytes % panels == 0
    if dtype in {"Q4_0", "IQ4_NL", "Q6_K", "Q8_0", *FLOATS}:
        assert packed.n_bytes == panels * 32 * matrix.data.nbytes // rows


def test_rounding(isa: str) -> None:
    rng = np.random.default_rng(2)
    x = activations(rng, 50, 96)
    x[0, :32] = np.arange(32) - 15.5  # ties, once scaled by a power of two
    x[0, 31] = 127.0
    x[1, 3], x[2, 40], x[3, 70] = np.inf, -np.inf, np.nan
    x[4, :32] = rng.uniform(-1, 1, 32) * 1e-38
    x[5, :32] = 3e36
    codes, scales, sums = kernels.quantise_rows(isa, x)

    blocks = np.ascontiguousarray(x).reshape(50, 3, 32)
    most = np.abs(blocks).max(axis=2)
    bad, tiny = ~np.isfinite(most), most < 2.0**-100
    with np.errstate(all="ignore"):
        factor = np.float32(127) / most
        expected = np.rint(blocks * factor[..., None])
    expected[bad | tiny] = 0
    assert (codes == expected).all()
    assert np.isnan(scales[bad]).all()
    assert (scales[tiny] == 0).all()
    normal = ~bad & ~tiny
    assert (scales[normal, 0] == (most / np.float32(127))[normal]).all()
    assert (sums[..., 0] == expected[..., :16].sum(axis=2)).all()
    assert (sums[..., 1] == expected.sum(axis=2)).all()
    assert (scales[normal, 1] == scales[normal, 0] * sums[normal, 1].astype(np.float32)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_devices_agree(dtype: str, other_name: str) -> None:
    rng = np.random.default_rng(3)
    for rows, tokens, blocks in [
        (1, 1, 1),
        (7, 13, 2),
        (16, 3, 3),
        (31, 4, 1),
        (32, 5, 4),
        (33, 2, 2),
        (70, 6, 1),
        (45, 23, 19),
    ]:
        matrix = Matrix(rng, dtype, rows, cols_of(dtype, blocks))
        x = activations(rng, tokens, matrix.cols)
        [expected] = product(device_of(REFERENCE, 1), x, matrix)
        [got] = product(device_of(other_name, 1), x, matrix)
        assert agree(other_name, got, expected, "quantised"), (rows, tokens, blocks)


@pytest.mark.parametrize("dtype", DTYPES)
def test_against_fp64(dtype: str, name: str) -> None:
    rng = np.random.default_rng(4)
    matrix = Matrix(rng, dtype, 45, cols_of(dtype, 5))
    x = activations(rng, 7, matrix.cols)
    [got] = product(device_of(name, 1), x, matrix)
    w = matrix.values.astype(np.float64)
    if dtype in FLOATS:
        quantised, step = x.astype(np.float64), np.zeros(x.shape)
    else:
        quantised, step = cpu_quantised(x)
    # Every partial sum is below sum |w x|, mins and codes apart counted; one rounding of 2^-24 for each of its terms.
    terms = matrix.cols if dtype in FLOATS else matrix.cols // 16
    size = np.abs(quantised) @ np.abs(w).T + step.sum(axis=1)[:, None] * 127 * np.abs(w).max()
    if name.startswith("cpu-"):
        assert (np.abs(got - quantised @ w.T) <= (3 * terms + 8) * 2.0**-24 * size).all()
    # A device may quantise activations to 8 bits, in blocks of 32, or not: that moves each by half a step at most.
    bound = 0.5 * step @ np.abs(w).T
    assert (np.abs(got - x.astype(np.float64) @ w.T) <= 1.001 * bound + 1e-5 * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_see_its_neighbours(dtype: str, name: str) -> None:
    rng = np.random.default_rng(5)
    matrix, other = Matrix(rng, dtype, 72, cols_of(dtype, 3)), Matrix(rng, "F32", 5, cols_of(dtype, 3))
    x = activations(rng, 70, matrix.cols)
    [whole] = product(device_of(name, 1), x, matrix)
    for count in [*range(1, 13), 16, 17, 64]:
        first = int(rng.integers(0, 70 - count + 1))
        [part] = product(device_of(name, 1), x[first : first + count], matrix)
        assert same_bits(part, whole[first : first + count]), count
    for threads in (2, 3):
        with_other = product(device_of(name, threads), x, other, matrix, matrix)
        assert same_bits(with_other[1], whole)
        assert same_bits(with_other[2], whole)


def test_blocks_of_rows_and_projections(name: str) -> None:
    """More rows than one pass over the panels takes."""
    rng = np.random.default_rng(6)
    matrix = Matrix(rng, "Q4_K", 40, 256)
    x = activations(rng, 211, 256)
    [whole] = product(device_of(name, 2), x, matrix)
    parts = [product(device_of(name, 1), x[i : i + 50], matrix)[0] for i in range(0, 211, 50)]
    assert same_bits(whole, np.concatenate(parts))


@pytest.mark.parametrize("dtype", ["Q4_0", "Q6_K", "BF16"])
def test_matmul_add_is_one_addition(dtype: str, name: str) -> None:
    rng = np.random.default_rng(7)
    for rows in (5, 32, 50, 63):
        matrix = Matrix(rng, dtype, rows, cols_of(dtype, 2))
        device, h = device_of(name, 2), activations(rng, 8, matrix.cols)
        x = ragged(8, rows, shift=3)
        x[:] = rng.standard_normal(x.shape)
        [added] = product(device, h, matrix)
        expected = x + added
        device.matmul_add(x, h, matrix.pack(device))
        assert agree(name, x, expected)


@pytest.mark.parametrize(("gate_type", "up_type"), [("Q4_0", "Q4_0"), ("Q4_K", "Q6_K"), ("F32", "Q8_0")])
def test_swiglu(gate_type: str, up_type: str, name: str) -> None:
    rng = np.random.default_rng(8)
    gate, up = Matrix(rng, gate_type, 71, 512), Matrix(rng, up_type, 71, 512)
    h = activations(rng, 101, 512)
    g, u = product(device_of(REFERENCE, 1), h, gate, up)
    expected = kernels.silu_multiply("reference", np.ascontiguousarray(g).ravel(), np.ascontiguousarray(u).ravel())
    device, out = device_of(name, 2), ragged(101, 71)
    device.swiglu(out, h, gate.pack(device), up.pack(device))
    with np.errstate(over="ignore"):
        exact = g.astype(np.float64) / (1 + np.exp(-g.astype(np.float64))) * u
    np.testing.assert_allclose(expected.reshape(g.shape), exact, rtol=4e-7, atol=1e-30)
    assert agree(name, out, expected.reshape(g.shape), "quantised")


def test_functions() -> None:
    x = np.concatenate([np.linspace(-87, 88, 40001), np.geomspace(1e-30, 80, 2000), -np.geomspace(1e-30, 80, 2000)])
    x = x.astype(np.float32)
    y = x.astype(np.float64)
    np.testing.assert_allclose(kernels.exp(x), np.exp(y), rtol=1.0e-7)
    np.testing.assert_allclose(kernels.sigmoid(x), 1 / (1 + np.exp(-y)), rtol=1.6e-7)
    np.testing.assert_allclose(kernels.silu(x), y / (1 + np.exp(-y)), rtol=1.6e-7)
    np.testing.assert_allclose(kernels.softplus(x), np.logaddexp(y, 0), rtol=2.3e-7)
    edges = np.array([-np.inf, np.inf, np.nan, -200, 200], np.float32)
    np.testing.assert_array_equal(kernels.exp(edges), [0, np.inf, np.nan, 0, np.inf])
    np.testing.assert_array_equal(kernels.softplus(edges), [0, np.inf, np.nan, 0, 200])


def test_silu_multiply_same_bits(vector_isa: str) -> None:
    rng = np.random.default_rng(9)
    for count in (1, 7, 16, 31, 203):
        gate, up = rng.uniform(-110, 110, (2, count)).astype(np.float32)
        gate[0] = rng.choice([0, -0.0, np.inf, -1e-40])
        expected = kernels.silu_multiply("reference", gate, up)
        np.testing.assert_array_equal(bits(kernels.silu_multiply(vector_isa, gate, up)), bits(expected))


def test_what_cannot_be_packed_or_multiplied(device: kernels.Device) -> None:
    rng = np.random.default_rng(10)
    matrix = Matrix(rng, "Q4_0", 6, 64)
    with pytest.raises(FormatError, match="groups"):
        device.pack(matrix.data, "Q4_0", 6, 64, 4)
    with pytest.raises(FormatError, match="multiple"):
        device.pack(matrix.data[:108], "Q4_0", 6, 48)
    with pytest.raises(InputError, match=r"does not fit"):
        device.matmul(ragged(2, 32), [(ragged(2, 6), matrix.pack(device))])
    with pytest.raises(InputError, match="vocabulary"):
        device.embed(ragged(1, 64), matrix.pack(device), [6])
