"""sigmoid_gate: h <- h * sigmoid(gate), one gate per row."""

import numpy as np
from kernel_cases import REFERENCE, U, agree, device_of, rows, same_bits, sigmoid


def test_formula(device):
    rng = np.random.default_rng(0)
    h, gate = rows(rng, 6, 75), rows(rng, 6, 1, 5.0)
    out = np.array(h)
    device.sigmoid_gate(out, gate)
    wanted = h.astype(np.float64) * sigmoid(gate.astype(np.float64))
    # sigmoid has a relative error of 2.0e-7 (devices/cpu/math.h); one rounding of the product.
    assert np.all(np.abs(out - wanted) <= (2.0e-7 + U) * np.abs(wanted))


def gated(name, threads, h, gate):
    out = np.array(h)
    device_of(name, threads).sigmoid_gate(out, gate)
    return out


def test_threads_do_not_matter(name):
    rng = np.random.default_rng(1)
    h, gate = rows(rng, 33, 700), rows(rng, 33, 1)
    wanted = gated(name, 1, h, gate)
    for threads in (3, 4):
        assert same_bits(gated(name, threads, h, gate), wanted)


def test_devices_agree(other_name):
    rng = np.random.default_rng(2)
    h, gate = rows(rng, 9, 75), rows(rng, 9, 1, 5.0)
    assert agree(other_name, gated(other_name, 1, h, gate), gated(REFERENCE, 1, h, gate))
