"""Arguments that do not fit are refused before a device sees them, by every operation, with what was expected."""

import os
import re
from collections.abc import Callable

import numpy as np
import pytest
from kernel_cases import REFERENCE, device_of, empty
from matrices import Matrix

from qwen35_local._core import kernels
from qwen35_local.errors import InputError, OutOfMemory, Qwen35Error

ONES = np.ones(64, np.float32)


def weight(device: kernels.Device, rows: int, cols: int, groups: int = 1) -> kernels.Weight:
    return Matrix(np.random.default_rng(0), "F32", rows, cols, groups).pack(device)


def zeros(rows: int, cols: int) -> np.ndarray:
    return np.zeros((rows, cols), np.float32)


def experts(device: kernels.Device, count: int, groups: int) -> kernels.Experts:
    gate, up, down = (weight(device, 20, 32, groups) for _ in range(3))
    return kernels.Experts(gate, up, down, count)


def append(
    device: kernels.Device, q_gate: np.ndarray, k: np.ndarray, segment: tuple[int, int, int], pairs: int = 0
) -> None:
    cache = kernels.KvCache(device, "f32", (2, 1, 16), 1)
    device.norm_rope_append(q_gate, k, k, ONES[:16], ONES[:16], 1e-6, [1.0] * pairs, 1.0, (2, 1, 16), [segment],
                         [cache])  # fmt: skip


def attend(device: kernels.Device, out: np.ndarray, shape: tuple[int, int, int] = (2, 1, 16)) -> None:
    device.attend(out, zeros(3, 64), shape, [(0, 3, 0)], [kernels.KvCache(device, "f32", (2, 1, 16), 1)])


CASES: dict[str, Callable[[kernels.Device], object]] = {
    r"embed: out is \[2, 31\], expected \[2, 32\]": lambda c: c.embed(empty(2, 31), weight(c, 5, 32), [0, 1]),
    r"rms_norm: out is \[2, 64\], expected \[3, 64\]": lambda c: c.rms_norm(empty(2, 64), zeros(3, 64), ONES, 1e-6),
    r"matmul: \[3, 64\] times the transpose of \[5, 32\] does not fit": lambda c: c.matmul(
        zeros(3, 64), [(empty(3, 5), weight(c, 5, 32))]
    ),
    r"matmul_add: .* does not fit an output of \[3, 4\]": lambda c: c.matmul_add(
        zeros(3, 4), zeros(3, 32), weight(c, 5, 32)
    ),
    r"swiglu: .* does not fit an output of \[3, 5\]": lambda c: c.swiglu(
        empty(3, 5), zeros(3, 32), weight(c, 5, 32), weight(c, 6, 32)
    ),
    r"norm_rope_append: k is \[3, 17\], expected \[3, 16\]": lambda c: append(c, zeros(3, 64), zeros(3, 17), (0, 3, 0)),
    r"step: a segment of 4 rows from row 0": lambda c: append(c, zeros(3, 64), zeros(3, 16), (0, 4, 0)),
    r"norm_rope_append: rotary dimensions 18": lambda c: append(c, zeros(3, 64), zeros(3, 16), (0, 3, 0), 9),
    r"attend: out is \[3, 31\], expected \[3, 32\]": lambda c: attend(c, empty(3, 31)),
    r"attend: 2 heads over 1 key/value heads of width 17": lambda c: attend(c, empty(3, 32), (2, 1, 17)),
    r"route: num_experts_per_tok is 9, expected 1 to num_experts, 8": lambda c: c.route(
        zeros(1, 32), weight(c, 8, 32), 9
    ),
    r"route: \[1, 32\] times the transpose of \[8, 64\] does not fit": lambda c: c.route(
        zeros(1, 32), weight(c, 8, 64), 2
    ),
    r"moe_gather: 20 rows of weights are not 3 equal parts": lambda c: c.moe_gather(
        empty(2, 5), zeros(1, 32), experts(c, 3, 1), np.zeros((1, 2), np.int32)
    ),
    r"moe_gather: \[1, 32\] times 2 of the experts .* expected \[2, 5\]": lambda c: c.moe_gather(
        empty(3, 5), zeros(1, 32), experts(c, 4, 4), np.zeros((1, 2), np.int32)
    ),
    r"moe_combine: h is \[3, 32\], expected \[2, 32\]": lambda c: c.moe_combine(
        zeros(1, 5), zeros(3, 32), experts(c, 4, 4), np.zeros((1, 2), np.int32), zeros(1, 2)
    ),
    r"step: output row 5 of 5": lambda c: c.take_rows(empty(1, 8), zeros(5, 8), [5]),
}


@pytest.mark.parametrize("message", CASES)
def test_what_does_not_fit_is_refused(message: str) -> None:
    with pytest.raises(InputError) as refusal:
        CASES[message](device_of(REFERENCE, 1))
    assert re.search(message, str(refusal.value)), str(refusal.value)


@pytest.mark.skipif("QWEN35_SANITIZED" in os.environ, reason="the sanitizer ends the process instead")
def test_memory_that_cannot_be_had_is_said_in_bytes() -> None:
    with pytest.raises(OutOfMemory, match=r"no memory for \d{12,} bytes more; take") as refusal:
        kernels.KvCache(device_of(REFERENCE, 1), "f32", (1, 2**15, 2**30), 1)
    assert isinstance(refusal.value, MemoryError)
    assert isinstance(refusal.value, Qwen35Error)
