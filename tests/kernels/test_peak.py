"""The loops that measure the machine do what they are counted for. How fast they are is no test's business."""

import numpy as np
import pytest

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
def test_rates_are_positive(isa: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN35_ISA", isa)
    assert _core.read_bandwidth(1 << 20, threads=threads, repetitions=1) > 0
    assert _core.int8_throughput(threads=threads, repetitions=1) > 0


def test_a_buffer_shorter_than_a_block_per_thread_is_rounded_up() -> None:
    assert _core.read_bandwidth(1, threads=2, repetitions=1) > 0


@pytest.mark.parametrize(
    "arguments", [{"n_bytes": 0}, {"n_bytes": 4096, "threads": 2000}, {"n_bytes": 4096, "repetitions": 0}]
)
def test_senseless_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected"):
        _core.read_bandwidth(**arguments)
