"""Rows of a DeltaNet layer that may be taken back: however many are kept, the layer goes on as if the rejected ones had
never been (deferred commit, docs/architecture.md 5.3). Bit by bit."""

from dataclasses import astuple, dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import REFERENCE, device_of, empty, same_bits
from test_conv_silu import case as conv_case
from test_gated_delta_net import EPS, TAPS, Case, run

from qwen35_local._core import kernels
from qwen35_local.errors import InputError

MOST = 16  # rows of a pass that may be taken back
SHAPE = (2, 4, 12, 32)  # Hk, Hv, Dk, Dv
TEXT, DRAFTS = 160, 64


@dataclass(frozen=True)
class Pass:
    """Rows of the text, then rows of which `kept` turn out to be the text's own and `rejected` do not."""

    certain: int
    kept: int
    rejected: int


@cache
def text():
    return Case.of(1, TEXT, *SHAPE)


@cache
def drafts():
    """Rows that are none of the text's."""
    return Case.of(2, DRAFTS, *SHAPE)


@cache
def plain(device):
    return run(device_of(device, 1), text(), [TEXT])


def rows_of(case, which):
    return case.qkv[which], case.z[which], case.a[which], case.b[which]


def true_commit(committed, position, step):
    return committed, step.certain


def is_plain(device, passes, uncertain=MOST, commit=true_commit, threads=1):
    """Whether the text's rows have the bits of plain evaluation, in every pass. `commit` says of a pass what is told to
    the layer: the length its state is committed to, and how many rows are certain."""
    on, width = device_of(device, threads), SHAPE[1] * SHAPE[3]
    state, at, committed = kernels.DeltaState(on, [*SHAPE, TAPS], uncertain), 0, 0
    for number, step in enumerate(passes):
        own = step.certain + step.kept
        wrong = rows_of(drafts(), (number * 7 + np.arange(step.rejected)) % DRAFTS)
        x = [np.concatenate(pair) for pair in zip(rows_of(text(), slice(at, at + own)), wrong, strict=True)]
        out = empty(own + step.rejected, width)
        on.gated_delta_net(out, *x, text().parameters, [*SHAPE, TAPS], EPS, [(0, len(out), at)], [state],
                           [commit(committed, at, step)])  # fmt: skip
        if not same_bits(out[:own], plain(device)[at : at + own]):
            return False
        committed, at = at + step.certain, at + own
    return True


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("certain", [0, 1, 2, 3, 4])
def test_every_number_kept_of_every_number_of_drafts(name, threads, certain):
    for drafted in range(1, 10):
        for kept in range(drafted + 1):
            once = Pass(certain, kept, drafted - kept)
            passes = [Pass(3, 0, 0), once, once, Pass(1, 0, 0), once, Pass(9, 0, 0)]
            assert is_plain(name, passes, threads=threads), passes


@given(st.lists(st.builds(Pass, st.integers(0, 9), st.integers(0, 8), st.integers(0, 8)), max_size=9))
@settings(max_examples=60, deadline=None)
def test_any_pattern_of_drafts(passes):
    passes = [p for p in passes if p != Pass(0, 0, 0)]
    assert is_plain(REFERENCE, passes)


@pytest.mark.parametrize("kept", [0, 5, 16])
def test_blocks_of_rows_end_before_the_uncertain_ones(name, kept):
    """A pass longer than the rows that go from step to step together, its uncertain ones across their end."""
    for certain in range(44, 66):
        assert is_plain(name, [Pass(2, 1, 4), Pass(certain, kept, MOST - kept), Pass(1, 0, 2), Pass(5, 0, 0)])


@pytest.mark.parametrize("uncertain", [1, 2, 5])
def test_room_for_few(name, uncertain):
    """Nothing is written behind the room that the state has for so many rows."""
    for first in range(4):
        passes = [Pass(first, 0, uncertain), Pass(1, uncertain, 0), Pass(0, 0, uncertain), Pass(6, 0, 0)]
        assert is_plain(name, [p for p in passes if p != Pass(0, 0, 0)], uncertain)


def test_a_wrong_commit_is_found():
    passes = [Pass(2, 1, 6), Pass(1, 3, 0), Pass(2, 0, 0), Pass(4, 0, 0)]
    assert is_plain(REFERENCE, passes)
    for wrong in (
        lambda committed, position, step: (position, sum(astuple(step))),  # rejected rows are committed
        lambda committed, position, step: (position, step.certain),  # rows that were kept are not
    ):
        assert not is_plain(REFERENCE, passes, commit=wrong)


@pytest.mark.parametrize("accepted", range(9))
def test_a_convolution_goes_on_behind_the_rows_that_were_kept(isa, accepted):
    drafted = 8
    _, x, kernel, window = conv_case(accepted, 24, 67)
    whole, left = empty(24, 67), window.copy()
    kernels.conv_silu(isa, whole, x, kernel, left)
    for certain in range(4):
        room = np.concatenate([window, np.full((drafted, 67), np.nan, np.float32)])
        first, rest = empty(certain + drafted, 67), empty(24 - certain - accepted, 67)
        kernels.conv_silu(isa, first, x[: len(first)], kernel, room, accepted=0, uncertain=drafted)
        kernels.conv_silu(isa, rest, x[certain + accepted :], kernel, room, accepted=accepted, uncertain=0)
        assert same_bits(np.concatenate([first[: certain + accepted], rest]), whole)
        assert same_bits(room[:3], left)


@pytest.mark.parametrize(
    ("commit", "what"),
    [((9, 1), "9 committed"), ((8, 3), "3 certain"), ((6, 1), "2 rows of a segment were"), ((8, 0), "2 .* are")],
)
def test_commits_that_cannot_be(commit, what):
    on, x = device_of(REFERENCE, 1), rows_of(text(), slice(0, 2))
    with pytest.raises(InputError, match=what):
        on.gated_delta_net(empty(2, SHAPE[1] * SHAPE[3]), *x, text().parameters, [*SHAPE, TAPS], EPS, [(0, 2, 8)],
                           [kernels.DeltaState(on, [*SHAPE, TAPS], 1)], [commit])  # fmt: skip
