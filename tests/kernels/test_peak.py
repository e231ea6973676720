"""The loops that measure a device do what they are counted for. How fast they are is no test's business."""

import numpy as np
import pytest
from kernel_cases import device_of

from qwen35_local import _core
from qwen35_local._core import kernels
from qwen35_local.errors import InputError


@pytest.mark.parametrize("offset", [0, 8, 13])
def test_every_byte_is_read(isa: str, offset: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, 3 * 4096 + offset, np.uint8)[offset:]
    assert kernels.read_sum(isa, data) == int(data.copy().view(np.uint64).sum(dtype=np.uint64))


def test_operations_are_those_of_the_rounds(isa: str) -> None:
    once = kernels.multiply_int8(isa, 1)
    assert once > 0
    rounds = 1 << 20  # what they sum up passes 32 bits
    assert kernels.multiply_int8(isa, rounds) == rounds * once


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n_bytes", [1, 4096, 600_000])
def test_bytes_are_those_of_whole_buffers(name: str, n_bytes: int, threads: int) -> None:
    """A card reads its buffer several times and counts every byte that it reads: four loads of 16 bytes by each of 256
    threads of four blocks a multiprocessor, or that many times over. A processor reads one block of 4,096 a thread at
    least."""
    rate = device_of(name, threads).read_memory(n_bytes, 2)
    assert rate.seconds > 0
    assert rate.per_second == rate.count / rate.seconds
    if name.startswith("cpu"):
        assert rate.count == 4096 * max(n_bytes // 4096, threads)
    else:
        unit = 4 * int(dict(_core.device_facts(name))["multiprocessors"]) * 256 * 4 * 16
        rounds, rest = divmod(rate.count, unit * -(-n_bytes // unit))
        assert rest == 0 == rounds & (rounds - 1) < rounds


def test_operations_are_whole_products(name: str) -> None:
    rate = device_of(name, 1).multiply_int8(1)
    assert rate.seconds > 0
    if name.startswith("cpu"):
        assert rate.count % kernels.multiply_int8(name.removeprefix("cpu-"), 1) == 0 < rate.count
    else:  # warps of eight products of 16 x 8 x 32, multiplications and additions
        assert rate.count % (2 * 8 * 16 * 8 * 32) == 0 < rate.count


def test_rates_of_a_device_by_its_name(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN35_ISA", isa)
    assert _core.read_memory(1 << 20, device="cpu", threads=2, repetitions=1).per_second > 0
    assert _core.multiply_int8(device="cpu", threads=2, repetitions=1).per_second > 0


@pytest.mark.parametrize(
    "arguments", [{"n_bytes": 0}, {"n_bytes": 4096, "threads": 2000}, {"n_bytes": 4096, "repetitions": 0}]
)
def test_senseless_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected"):
        _core.read_memory(**arguments)
    with pytest.raises(InputError, match="expected one of"):
        _core.multiply_int8(device="gpu")
