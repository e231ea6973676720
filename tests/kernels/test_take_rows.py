"""take_rows: out[i] = x[rows[i]]."""

import numpy as np
import pytest
from kernel_cases import empty, rows, same_bits


@pytest.mark.parametrize("taken", [[], [3], [0, 4, 4, 1]])
def test_rows(device, taken):
    x, out = rows(np.random.default_rng(0), 5, 19), empty(len(taken), 19)
    device.take_rows(out, x, taken)
    assert same_bits(out, x[taken])
