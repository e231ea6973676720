"""A device that fails, at every allocation and every operation: what was asked for fails as a whole or says that the
sequence is torn, nothing stays held, and the next attempt gives what it would have given."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local._core import kernels
from qwen35_local.errors import DeviceError, InputError, OutOfMemory

Kv = Literal["f32", "f16", "q8", "q4", "k8v4"]
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 300, 1400)]
LAYERS = 4


@dataclass
class Stage:
    """A sequence of 700 tokens with a snapshot at 300 on a device of its own, and one at 600 whose pages are
    elsewhere."""

    fake: kernels.Fake
    model: _core.Model
    sequence: _core.Sequence
    snapshot: _core.Snapshot
    other: _core.Snapshot

    @classmethod
    def build(cls, path: str, kv: Kv) -> "Stage":
        fake = kernels.Fake()
        model = fake.model(path)
        sequence = _core.Sequence(model, kv=kv)
        sequence.append(TEXT[:600], logits="none")
        other = sequence.snapshot()
        sequence.truncate(0)
        sequence.append(TEXT[:300], logits="none")
        snapshot = sequence.snapshot()
        sequence.append(TEXT[300:700])
        assert fake.saved_pages > 0
        return cls(fake, model, sequence, snapshot, other)

    def held(self) -> tuple[int, int, int]:
        return self.fake.buffers, self.fake.pages, self.fake.slots

    def goes_on(self, length: int) -> None:
        """The sequence holds the first `length` tokens: every layer sees them, and one more."""
        assert len(self.sequence) == length
        self.fake.clear_events()
        [row] = self.sequence.append(TEXT[length : length + 1])
        assert (int(row[0]), int(row[1])) == (TEXT[length], length)
        seen = [histories for name, _, histories in self.fake.events if histories and name != "previous_rows"]
        assert seen == [[TEXT[: length + 1]]] * LAYERS


ACTIONS: dict[str, tuple[Callable[[Stage], Any], int]] = {  # what is done, and how long the sequence then is
    "append": (lambda s: s.sequence.append(TEXT[700:1300], chunk_tokens=256), 1300),
    "restore": (lambda s: s.sequence.restore(s.snapshot), 300),
    "come back": (lambda s: s.sequence.restore(s.other), 600),
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
    except InputError as error:
        assert "failed midway" in str(error)
        return True
    return False


def failed(action: Callable[[], Any]) -> bool:
    try:
        action()
    except (OutOfMemory, DeviceError):
        return True
    return False


def recover(stage: Stage) -> None:
    """Back to 700 tokens, or further where an append got on."""
    stage.fake.fail_allocation(0)
    if is_torn(stage.sequence):
        stage.sequence.restore(stage.snapshot)
    if len(stage.sequence) < 700:
        stage.sequence.append(TEXT[len(stage.sequence) : 700])


@pytest.mark.parametrize("mtp", [False, True], ids=["", "mtp"])
@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_allocation_fails_at_every_place(tiny: Callable[..., Any], action: str, kv: Kv, mtp: bool) -> None:
    path, (act, length) = tiny(mtp=mtp).path, ACTIONS[action]
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
        assert not (action == "append" and is_torn(stage.sequence))
        recover(stage)
        again = stage.sequence.append(TEXT[len(stage.sequence) : 1300]) if action == "append" else act(stage)
        stage.goes_on(length)
        assert stage.held() == undisturbed.held(), f"allocation {n}"
        del again
    assert n > 1 or action in {"restore", "truncate to nothing"}  # which need nothing
    del result


def test_what_a_pass_works_in_is_taken_before_it(tiny: Callable[..., Any]) -> None:
    """The token after 700 takes no page and no activations; without memory it is as if nobody had asked."""
    stage = Stage.build(tiny().path, "f16")
    for _ in range(2):
        stage.fake.clear_events()
        stage.fake.fail_allocation(1)
        with pytest.raises(OutOfMemory, match="fail at 1 bytes"):
            stage.sequence.append(TEXT[700:701])
        assert stage.fake.events == []
        assert not is_torn(stage.sequence)
    stage.goes_on(700)


WITHOUT_MEMORY = """
import resource, sys
from qwen35_local import _core
from qwen35_local.errors import OutOfMemory

model, tokens = _core.Model(sys.argv[1], device="cpu", threads=1), [7] * 4000
sequence, undisturbed = _core.Sequence(model), _core.Sequence(model)
sequence.append([1, 2, 3])
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 20), resource.RLIM_INFINITY))
try:
    sequence.append(tokens, chunk_tokens=4000)
except OutOfMemory as error:
    print(error, len(sequence))
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
same = sequence.append(tokens) == undisturbed.append([1, 2, 3, *tokens])
print(bool(same.all()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited there alone")
@pytest.mark.skipif("QWEN35_SANITIZED" in os.environ, reason="the sanitizer needs the address space")
def test_a_system_without_memory(tiny: Callable[..., Any]) -> None:
    command = [sys.executable, "-c", WITHOUT_MEMORY, str(tiny(wide=True).path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"the system has no memory for \d{7,} bytes more; take .* 3\nTrue\n", run.stdout), run


@pytest.mark.parametrize("mtp", [False, True], ids=["", "mtp"])
@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_an_operation_fails_at_every_place(tiny: Callable[..., Any], kv: Kv, mtp: bool) -> None:
    """A pass that ends midway has advanced some layers and others not."""
    stage = Stage.build(tiny(mtp=mtp).path, kv)
    other = _core.Sequence(stage.model, kv=kv)
    other.append(TEXT[:20])
    held = stage.held()
    for n in count(1):
        stage.fake.fail_operation(n)
        if not failed(lambda: stage.sequence.append(TEXT[700:790])):
            break
        assert is_torn(stage.sequence)
        with pytest.raises(InputError, match="failed midway"):
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
