"""A device that fails, at every allocation and every operation: what was asked for fails as a whole or says that the
sequence is torn, nothing stays held, and the next attempt gives what it would have given."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local._core import kernels

Kv = Literal["f32", "f16", "q8", "q4", "k8v4"]
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 300, 1400)]
LAYERS = 4


@dataclass
class Stage:
    """A sequence of 700 tokens with a snapshot at 300 on a device of its own."""

    fake: kernels.Fake
    model: _core.Model
    sequence: _core.Sequence
    snapshot: _core.Snapshot

    @classmethod
    def build(cls, path: str, kv: Kv) -> "Stage":
        fake = kernels.Fake()
        model = fake.model(path)
        sequence = _core.Sequence(model, kv=kv)
        sequence.append(TEXT[:300], logits="none")
        snapshot = sequence.snapshot()
        sequence.append(TEXT[300:700])
        return cls(fake, model, sequence, snapshot)

    def held(self) -> tuple[int, int, int]:
        return self.fake.buffers, self.fake.pages, self.fake.slots

    def goes_on(self, length: int) -> None:
        """The sequence holds the first `length` tokens: every layer sees them, and one more."""
        assert len(self.sequence) == length
        self.fake.clear_events()
        [row] = self.sequence.append(TEXT[length : length + 1])
        assert (int(row[0]), int(row[1])) == (TEXT[length], length)
        seen = [histories for _, _, histories in self.fake.events if histories]
        assert seen == [[TEXT[: length + 1]]] * LAYERS


ACTIONS: dict[str, tuple[Callable[[Stage], Any], int]] = {  # what is done, and how long the sequence then is
    "append": (lambda s: s.sequence.append(TEXT[700:1300], chunk_tokens=256), 1300),
    "restore": (lambda s: s.sequence.restore(s.snapshot), 300),
    "truncate": (lambda s: s.sequence.truncate(500), 500),
    "truncate to nothing": (lambda s: s.sequence.truncate(0), 0),
    "snapshot": (lambda s: s.sequence.snapshot(), 700),
    "fork": (lambda s: s.sequence.fork(), 700),
    "create": (lambda s: _core.Sequence(s.model), 700),
    "assemble": (
        lambda s: _core.Snapshot.assemble(
            s.model, kv=s.snapshot.kv, tokens=s.snapshot.tokens, pages=[page.data() for page in s.snapshot.pages],
            state=s.snapshot.state(),
        ), 700,
    ),
}  # fmt: skip


def is_torn(sequence: _core.Sequence) -> bool:
    try:
        sequence.append([], logits="none")
    except _core.InputError as error:
        assert "failed midway" in str(error)
        return True
    return False


def failed(action: Callable[[], Any]) -> bool:
    try:
        action()
    except (_core.OutOfMemory, _core.DeviceError):
        return True
    return False


def recover(stage: Stage) -> None:
    """Back to 700 tokens, or further where an append got on."""
    stage.fake.fail_allocation(0)
    if is_torn(stage.sequence):
        stage.sequence.restore(stage.snapshot)
    if len(stage.sequence) < 700:
        stage.sequence.append(TEXT[len(stage.sequence) : 700])


@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_allocation_fails_at_every_place(tiny: Callable[..., Any], action: str, kv: Kv) -> None:
    path, (act, length) = tiny().path, ACTIONS[action]
    undisturbed = Stage.build(path, kv)
    result = act(undisturbed)  # kept, as it is kept below
    undisturbed.goes_on(length)
    for n in count(1):
        stage = Stage.build(path, kv)
        stage.fake.fail_allocation(n)
        has_failed = failed(lambda: act(stage))  # noqa: B023
        if not has_failed:
            break
        assert is_torn(stage.sequence) or stage.sequence.tokens.tolist() == TEXT[: len(stage.sequence)]
        recover(stage)
        again = stage.sequence.append(TEXT[len(stage.sequence) : 1300]) if action == "append" else act(stage)
        stage.goes_on(length)
        assert stage.held() == undisturbed.held(), f"allocation {n}"
        del again
    assert n > 1 or action in {"restore", "truncate to nothing"}  # which need nothing
    del result


@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_an_operation_fails_at_every_place(tiny: Callable[..., Any], kv: Kv) -> None:
    """A pass that ends midway has advanced some layers and others not."""
    stage = Stage.build(tiny().path, kv)
    other = _core.Sequence(stage.model, kv=kv)
    other.append(TEXT[:20])
    held = stage.held()
    for n in count(1):
        stage.fake.fail_operation(n)
        if not failed(lambda: stage.sequence.append(TEXT[700:790])):
            break
        assert is_torn(stage.sequence)
        with pytest.raises(_core.InputError, match="failed midway"):
            stage.sequence.snapshot()
        assert not is_torn(other)
        if n % 2 == 0:
            stage.sequence.truncate(0)
            stage.sequence.append(TEXT[:300])
        else:
            stage.sequence.restore(stage.snapshot)
        stage.sequence.append(TEXT[300:700])
        assert n % 2 == 0 or stage.held() == held
    assert n > 20
    stage.fake.fail_operation(0)
    stage.goes_on(790)


def test_a_load_fails_at_every_allocation(tiny: Callable[..., Any]) -> None:
    path = tiny(moe=True).path
    for n in count(1):
        fake = kernels.Fake()
        fake.fail_allocation(n)
        if not failed(lambda: fake.model(path)):  # noqa: B023
            break
        assert (fake.buffers, fake.pages, fake.slots) == (0, 0, 0)
    assert n > 20
