"""previous_rows: out[t] = x[t - 1] of the same sequence, from pass to pass, also behind rows that were taken back; and
kept_rows: those of them that are kept."""

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


@pytest.mark.parametrize("uncertain", [0, 8])
def test_the_last_rows_are_kept(device: kernels.Device, uncertain: int) -> None:
    text, others = (rows(np.random.default_rng(seed), 100, WIDTH) for seed in (0, 1))
    states, n_kept, at = [state(device, uncertain) for _ in range(2)], 17 + uncertain, 0
    for take in (1, 3, 40, 2, n_kept):
        x = np.concatenate([text[at : at + take], others[at : at + take]])
        device.previous_rows(empty(2 * take, WIDTH), x, [(0, take, at), (take, take, at)], states)
        at += take
        first = max(at - n_kept, 0)
        out = empty(at - first + 2, WIDTH)
        device.kept_rows(
            out, [(0, at - first, first), (at - first, 1, at - 1), (at - first + 1, 1, first)], [*states, states[0]]
        )
        assert same_bits(out, np.concatenate([text[first:at], others[at - 1 : at], text[first : first + 1]]))


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
