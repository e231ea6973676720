"""previous_rows: out[t] = x[t - 1] of the same sequence, from pass to pass, also behind rows that were taken back."""

import numpy as np
import pytest
from kernel_cases import device_of, empty, rows, same_bits

from qwen35_local._core import kernels
from qwen35_local.errors import InputError

WIDTH = 19
SHAPE = [1, 1, 32, 32, 4]


def state(device: kernels.Device, uncertain: int) -> kernels.DeltaState:
    return kernels.DeltaState(device, SHAPE, uncertain, WIDTH)


@pytest.mark.parametrize("uncertain", [0, 1, 8])
def test_rows_come_a_token_late(device: kernels.Device, uncertain: int) -> None:
    """Two sequences in one batch, cut into passes; rows behind a position that is gone back to are overwritten."""
    text = rows(np.random.default_rng(0), 60, WIDTH)
    other = rows(np.random.default_rng(1), 60, WIDTH)
    states, at = [state(device, uncertain) for _ in range(2)], 0
    for take, back in ((1, 0), (2, 0), (1, 0), (9, uncertain), (uncertain + 1, uncertain), (30, 0)):
        x, out = np.concatenate([text[at : at + take], other[at : at + take]]), empty(2 * take, WIDTH)
        device.previous_rows(out, x, [(0, take, at), (take, take, at)], states)
        for found, of in ((out[:take], text), (out[take:], other)):
            assert same_bits(found, np.concatenate([np.zeros((1, WIDTH), np.float32), of])[at : at + take])
        at += take - back
        for of in (text, other):  # what was taken back is followed by something else
            of[at:] += 1


def test_a_snapshots_slot_is_refused_where_no_pass_reaches_it(name: str) -> None:
    """On a card, where it lies in the host's memory; elsewhere it is a slot like others."""
    device, x = device_of(name, 1), np.zeros((3, WIDTH), np.float32)
    saved = kernels.DeltaState(device, SHAPE, hidden=WIDTH, is_saved=True)
    saved.copy_from(kernels.DeltaState(device, SHAPE, hidden=WIDTH))
    if not name.startswith("cuda"):
        return device.previous_rows(empty(3, WIDTH), x, [(0, 3, 0)], [saved])
    with pytest.raises(InputError, match="the slot of a segment is a snapshot's, expected a sequence's"):
        device.previous_rows(empty(3, WIDTH), x, [(0, 3, 0)], [saved])
    return None


def test_a_state_without_hidden_rows_is_refused(device: kernels.Device) -> None:
    x = np.zeros((3, WIDTH), np.float32)
    with pytest.raises(InputError, match=r"no hidden rows of width 19"):
        device.previous_rows(empty(3, WIDTH), x, [(0, 3, 0)], [kernels.DeltaState(device, SHAPE)])
