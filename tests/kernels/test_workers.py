"""The team of workers behind every operation."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, empty, rows, same_bits

from qwen35_local import _core
from qwen35_local._core import kernels

ONES = np.ones(512, np.float32)


def norm(device, x):
    out = empty(*x.shape)
    device.rms_norm(out, x, ONES, 1e-6)
    return out


def test_zero_means_what_the_process_may_use():
    assert _core.usable_threads() >= 1
    x = rows(np.random.default_rng(0), 64, 512)
    assert same_bits(norm(kernels.Device(REFERENCE, 0), x), norm(kernels.Device(REFERENCE, 1), x))


def test_teams_come_and_go():
    x = rows(np.random.default_rng(1), 40, 512)
    wanted = norm(kernels.Device(REFERENCE, 1), x)
    for threads in (1, 2, 5, 2, 9):
        assert same_bits(norm(kernels.Device(REFERENCE, threads), x), wanted)


def processors(folder, file, values):
    for n, value in values.items():
        path = folder / f"cpu{n}" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


MAX_FREQ = "cpufreq/cpuinfo_max_freq"


@pytest.mark.parametrize(
    ("file", "values", "fast"),
    [
        ("cpu_capacity", {0: 384, 1: 384, 2: 1024, 3: 1024, 4: 1024}, 3),
        (MAX_FREQ, {0: 5_500_000, 1: 5_200_000, 2: 3_900_000, 3: 3_900_000}, 2),
        (MAX_FREQ, {0: 4_000_000, 1: 4_000_000}, 2),
        # Hybrids without SMT: eight at 5.5 GHz, twelve at 4.6; six at 5.2, eight at 4.6.
        (MAX_FREQ, {n: 5_500_000 if n < 8 else 4_600_000 for n in range(20)}, 8),
        (MAX_FREQ, {n: 5_200_000 if n < 6 else 4_600_000 for n in range(14)}, 6),
        # Favoured cores, and a die with stacked cache beside one without, are one kind.
        (MAX_FREQ, {0: 5_700_000, 1: 5_700_000, 2: 5_250_000, 3: 5_250_000}, 4),
    ],
)
def test_slow_cores_do_not_count(tmp_path, file, values, fast):
    processors(tmp_path, file, values)
    assert kernels.performance_processors(str(tmp_path), list(values)) == fast
    slow = [n for n, value in values.items() if value == min(values.values())]
    assert kernels.performance_processors(str(tmp_path), slow) == len(slow)


def test_capacity_counts_before_frequency(tmp_path):
    processors(tmp_path, "cpu_capacity", {0: 1024, 1: 400})
    processors(tmp_path, MAX_FREQ, {0: 2_000_000, 1: 2_000_000})
    assert kernels.performance_processors(str(tmp_path), [0, 1]) == 1


def test_where_the_system_tells_nothing_all_cores_count(tmp_path):
    assert kernels.performance_processors(str(tmp_path), [0, 1, 2]) == 3
    processors(tmp_path, MAX_FREQ, {0: 2_000_000, 1: 1_000_000})
    assert kernels.performance_processors(str(tmp_path), [0, 1, 2]) == 3
