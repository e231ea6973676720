"""sigmoid_gate: h <- h * sigmoid(gate), one gate per row."""

import numpy as np
from kernel_cases import U, cpu_of, rows, same_bits, sigmoid


def test_formula(cpu):
    rng = np.random.default_rng(0)
    h, gate = rows(rng, 6, 75), rows(rng, 6, 1, 5.0)
    out = np.array(h)
    cpu.sigmoid_gate(out, gate)
    wanted = h.astype(np.float64) * sigmoid(gate.astype(np.float64))
    # sigmoid has a relative error of 2.0e-7 (devices/cpu/math.h); one rounding of the product.
    assert np.all(np.abs(out - wanted) <= (2.0e-7 + U) * np.abs(wanted))


def test_threads_and_isas_do_not_matter(isa):
    rng = np.random.default_rng(1)
    h, gate = rows(rng, 33, 700), rows(rng, 33, 1)
    wanted = np.array(h)
    cpu_of("reference", 1).sigmoid_gate(wanted, gate)
    for threads in (1, 3, 4):
        out = np.array(h)
        cpu_of(isa, threads).sigmoid_gate(out, gate)
        assert same_bits(out, wanted)
