"""A reading can be stopped from another thread, and by Ctrl-C; the sequence then stands between two chunks."""

import _thread
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_model import random_tokens

from qwen35_local import _core
from qwen35_local.errors import Cancelled, InputError

CHUNK = 4
TOKENS = random_tokens(4000, seed=6)


def when_reading(sequence: _core.Sequence, action: Callable[[], None]) -> threading.Thread:
    """Acts as soon as the sequence has grown beyond one chunk, or does not grow: then the test fails, and ends."""
    until = time.monotonic() + 60

    def wait() -> None:
        while len(sequence) <= CHUNK and time.monotonic() < until:
            pass
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def assert_whole(model: _core.Model, sequence: _core.Sequence, first_chunk: int = CHUNK) -> None:
    """Stands between two chunks, and goes on as if nothing had happened."""
    n = len(sequence)
    assert CHUNK < n < len(TOKENS)
    assert (n - first_chunk) % CHUNK == 0
    assert sequence.tokens.tolist() == TOKENS[:n]
    fresh = _core.Sequence(model)
    fresh.append(TOKENS[:n], logits="none")
    assert np.array_equal(
        sequence.append(TOKENS[n : n + 10], logits="all"), fresh.append(TOKENS[n : n + 10], logits="all")
    )


def test_cancel(tiny: Any) -> None:
    model = _core.Model(tiny().path, threads=1)
    sequence = _core.Sequence(model)
    thread = when_reading(sequence, sequence.cancel)
    with pytest.raises(Cancelled, match="stands at token"):
        sequence.append(TOKENS, chunk_tokens=CHUNK)
    thread.join()
    assert_whole(model, sequence)


def test_cancel_of_one_stops_forward(tiny: Any) -> None:
    model = _core.Model(tiny().path, threads=1)
    first, second = _core.Sequence(model), _core.Sequence(model)
    thread = when_reading(first, second.cancel)
    with pytest.raises(Cancelled):
        model.forward([(first, TOKENS, "last"), (second, [1], "last")], chunk_tokens=CHUNK)
    thread.join()
    assert_whole(model, first, CHUNK - 1)  # the token of the other did not wait for the long prompt
    assert len(second) == 1
    assert second.append([1]).shape == (1, 300)


def test_cancel_of_nothing_does_nothing(tiny: Any) -> None:
    sequence = _core.Sequence(_core.Model(tiny().path))
    sequence.cancel()
    sequence.append(TOKENS[:20])
    sequence.cancel()
    assert len(sequence.fork()) == 20
    assert sequence.truncate(10) == 10


def test_interrupt(tiny: Any) -> None:
    # Whoever starts the tests in the background may have had SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    model = _core.Model(tiny().path, threads=1)
    sequence = _core.Sequence(model)
    thread = when_reading(sequence, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        sequence.append(TOKENS, chunk_tokens=CHUNK)
    thread.join()
    signal.signal(signal.SIGINT, before)
    assert_whole(model, sequence)


def test_a_sequence_has_one_user_at_a_time(tiny: Any) -> None:
    model = _core.Model(tiny().path, threads=1)
    sequence = _core.Sequence(model)
    spare = _core.Sequence(model).snapshot()
    refused: list[Exception] = []

    def intrude() -> None:
        uses: list[Callable[[], Any]] = [
            lambda: sequence.append([1]),
            lambda: model.forward([(sequence, [1], "last")]),
            lambda: sequence.tokens,
            lambda: sequence.state_bytes,
            lambda: sequence.truncate(0),
            lambda: sequence.restore(spare),
            sequence.snapshot,
            sequence.fork,
        ]
        for use in uses:
            try:
                use()
            except InputError as error:
                refused.append(error)
        sequence.cancel()

    thread = when_reading(sequence, intrude)
    with pytest.raises(Cancelled):
        sequence.append(TOKENS, chunk_tokens=CHUNK)
    thread.join()
    assert len(refused) == 8
    assert all("in use" in str(error) for error in refused)
    assert_whole(model, sequence)
