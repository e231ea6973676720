"""The team of workers behind every operation."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from kernel_cases import empty, rows, same_bits

from qwen35_local._core import kernels

ONES = np.ones(512, np.float32)


def norm(cpu, x):
    out = empty(*x.shape)
    cpu.rms_norm(out, x, ONES, 1e-6)
    return out


def test_zero_means_what_the_process_may_use():
    assert kernels.usable_threads() >= 1
    x = rows(np.random.default_rng(0), 64, 512)
    assert same_bits(norm(kernels.Cpu("reference", 0), x), norm(kernels.Cpu("reference", 1), x))


def test_teams_come_and_go():
    x = rows(np.random.default_rng(1), 40, 512)
    wanted = norm(kernels.Cpu("reference", 1), x)
    for threads in (1, 2, 5, 2, 9):
        assert same_bits(norm(kernels.Cpu("reference", threads), x), wanted)


def test_callers_take_turns():
    cpu = kernels.Cpu("reference", 3)
    inputs = [rows(np.random.default_rng(i), 50, 512) for i in range(4)]
    wanted = [norm(cpu, x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert all(same_bits(a, b) for a, b in zip(pool.map(lambda x: norm(cpu, x), inputs), wanted, strict=True))
