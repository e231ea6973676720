"""Recurrent states of snapshots on a card: they lie in the host's memory, get there beside passes and come back."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cards import cards

# An append of 9 tokens, then turns of one token and a snapshot each, which are then gone back to, the last first.
PROGRAM = """
import ctypes, sys
import numpy as np
from qwen35_local import _core

cuda = ctypes.CDLL("libcuda.so.1")
cuda.simt_get.restype = ctypes.c_long
model = _core.Model(sys.argv[1], device="cuda", threads=1)
forgotten, pageable = int(sys.argv[2]), int(sys.argv[3])

def begun():
    sequence = _core.Sequence(model)
    sequence.append(list(range(9)), logits="none")
    return sequence

expected = [np.array(sequence.append([n])) for sequence in [begun()] for n in range(6)]
sequence, snapshots, found = begun(), [], []
used, pinned = cuda.simt_get(b"used"), cuda.simt_get(b"pinned_allocations")
cuda.simt_set(b"forget_wait", ctypes.c_long(forgotten))
cuda.simt_set(b"fail_pinned", ctypes.c_long(pageable))
for n in range(5):
    snapshots.append(sequence.snapshot())
    found.append(np.array(sequence.append([n])))
waiting, taken = cuda.simt_get(b"waiting"), cuda.simt_get(b"used") - used
pins = cuda.simt_get(b"pinned_allocations") - pinned
other = _core.Sequence(model)
for n in (4, 1, 3, 0, 2):
    other.restore(snapshots[n])
    found.append(np.array(other.append([n])))
states = [snapshot.state() for snapshot in snapshots]
page = snapshots[0].pages[0].n_bytes
del snapshots
again = [sequence.snapshot() for _ in range(5)]
print(taken, pins, waiting, cuda.simt_get(b"pinned_allocations") - pinned - pins, len(states[0]), page)
same = [np.array_equal(a, b) for a, b in zip(found, expected[:5] + [expected[n] for n in (4, 1, 3, 0, 2)])]
assembled = _core.Snapshot.assemble(
    model, kv="f16", tokens=again[0].tokens, pages=[page.data() for page in again[0].pages], state=again[1].state()
)
other.restore(assembled)
same.append(np.array_equal(other.append([5]), expected[5]))
print(all(same))
"""


def run(path: Any, *, seed: int = 0, forgotten: int = 0, pageable: int = 0) -> tuple[list[int], bool]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(forgotten), str(pageable)],
        capture_output=True,
        text=True,
        env=cards(seed=seed),
    )
    assert done.returncode == 0, done.stderr
    counts, same = done.stdout.splitlines()
    return [int(count) for count in counts.split()], same == "True"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_states_leave_the_card_beside_passes_and_come_back(tiny: Callable[..., Any], seed: int) -> None:
    """Five snapshots take of the card's memory a state and a page through which they leave, and the page of the last
    one, which leaves with the next pass; what was page-locked is used again. The last state is still on its way when
    the token after it has been evaluated."""
    (taken, pinned, waiting, more, state, page), same = run(tiny().path, seed=seed)
    assert same
    assert taken == state + 2 * page
    assert (pinned, more) == (9, 1)
    assert waiting > 0 or seed > 0


def test_without_page_locked_memory_states_lie_in_ordinary_memory(tiny: Callable[..., Any]) -> None:
    (_, pinned, _, more, _, _), same = run(tiny().path, pageable=2)
    assert same
    assert (pinned, more) == (8, 1)


@pytest.mark.parametrize("wait", [3, 4, 19], ids=["until staging is read", "until it is staged", "until it is there"])
def test_a_wait_that_is_left_out_shows(tiny: Callable[..., Any], wait: int) -> None:
    """Two waits of each snapshot and two of the page of the one before it, then one when it is gone back to: without it
    something is read too early."""
    path = tiny().path
    assert not all(run(path, seed=seed, forgotten=wait)[1] for seed in range(8))
