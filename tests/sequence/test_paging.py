"""Which tokens every row sees in pages and recurrent state, on a device that keeps tokens instead of computing."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local._core import kernels

Kv = Literal["f32", "f16", "q8", "q4", "k8v4"]
FORMATS: list[Kv] = ["f16", "q4"]
PAGE = 256
LAYERS = 4  # three of DeltaNet, one of attention


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 300, count)]


@pytest.fixture
def fake() -> kernels.Fake:
    return kernels.Fake()


@pytest.fixture
def model(fake: kernels.Fake, tiny: Callable[..., Any]) -> _core.Model:
    return fake.model(tiny().path)


def histories(fake: kernels.Fake) -> list[list[list[int]]]:
    """What each look back of the passes since the last call saw, per segment."""
    seen = [histories for _, _, histories in fake.events if histories]
    fake.clear_events()
    return seen


def sees(fake: kernels.Fake, *expected: list[int]) -> bool:
    """Whether every layer of the last pass saw these tokens, one list per segment."""
    last = histories(fake)[-LAYERS:]
    return len(last) == LAYERS and all(seen == list(expected) for seen in last)


def names(logits: np.ndarray) -> list[tuple[int, int]]:
    """Token and position of the rows that logits came from."""
    return [(int(token), int(position)) for token, position in logits[:, :2]]


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("chunk", [1, 7, 256, 300, 512])
def test_rows_see_their_own_tokens(fake: kernels.Fake, model: _core.Model, kv: Kv, chunk: int) -> None:
    text = tokens(1100)
    sequence = _core.Sequence(model, kv=kv)
    start = 0 if chunk > 100 else 1000
    sequence.append(text[:start], logits="none")
    logits = sequence.append(text[start:], logits="all", chunk_tokens=chunk)
    assert names(logits) == list(zip(text[start:], range(start, 1100), strict=True))
    assert sees(fake, text)


def test_sequences_of_a_batch_do_not_meet(fake: kernels.Fake, model: _core.Model) -> None:
    texts = [tokens(n, seed=n) for n in (300, 5, 700)]
    sequences = [_core.Sequence(model, kv=kv) for kv in ("f16", "q4", "q8")]
    for sequence, text in zip(sequences, texts, strict=True):
        sequence.append(text[:-3], logits="none")
    found = model.forward([(s, text[-3:], "last") for s, text in zip(sequences, texts, strict=True)])
    assert sees(fake, *texts)
    assert [names(logits)[0] for logits in found] == [(text[-1], len(text) - 1) for text in texts]


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("length", [1, 255, 256, 257, 900])
def test_what_is_shared_is_copied_before_it_is_written(
    fake: kernels.Fake, model: _core.Model, kv: Kv, length: int
) -> None:
    text, ours, theirs, again = tokens(length), tokens(300, 1), tokens(300, 2), tokens(300, 3)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(text, logits="none")
    pages, slots = fake.pages, fake.slots
    snapshot, fork = sequence.snapshot(), sequence.fork()
    assert (fake.pages, fake.slots) == (pages, slots + 2)  # pinned, not copied
    sequence.append(ours, logits="none")
    assert sees(fake, text + ours)
    fork.append(theirs, logits="none")
    assert sees(fake, text + theirs)
    sequence.append([1], logits="none")
    assert sees(fake, [*text, *ours, 1])
    sequence.restore(snapshot)
    sequence.append(again, logits="none")
    assert sees(fake, text + again)
    fork.append([2], logits="none")
    assert sees(fake, [*text, *theirs, 2])


@pytest.mark.parametrize("kv", FORMATS)
def test_a_sequence_is_cut_back(fake: kernels.Fake, model: _core.Model, kv: Kv) -> None:
    text = tokens(900)
    sequence = _core.Sequence(model, kv=kv)
    kept = []
    for end in (300, 600, 900):
        sequence.append(text[end - 300 : end], logits="none")
        kept.append(sequence.snapshot())
    for n, evaluated in ((700, 100), (600, 0), (599, 299), (10, 10)):
        assert sequence.truncate(n) == evaluated
        sequence.append([5, 6], logits="none")
        assert sees(fake, [*text[:n], 5, 6])


@pytest.mark.parametrize("kv", FORMATS)
def test_a_snapshot_is_taken_apart_and_put_together(fake: kernels.Fake, model: _core.Model, kv: Kv) -> None:
    text = tokens(1100)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(text, logits="none")
    taken = sequence.snapshot()
    parts = [page.data() for page in taken.pages]
    again = _core.Snapshot.assemble(model, kv=kv, tokens=text, pages=parts, state=taken.state())
    other = _core.Sequence(model, kv=kv)
    other.restore(again)
    other.append([7], logits="none")
    assert sees(fake, [*text, 7])


@pytest.mark.parametrize("kv", FORMATS)
def test_pages_are_held_while_somebody_reads_them(fake: kernels.Fake, model: _core.Model, kv: Kv) -> None:
    sequence = _core.Sequence(model, kv=kv)
    for count in range(1, 8):
        sequence.append(tokens(PAGE), logits="none")
        # The next token opens a page. Of a quantised cache it reads the first page and the last one plain, and a page
        # has its quantised form as soon as it is full, but for the first.
        plain = count if kv == "f16" else min(count, 2)
        assert fake.pages == plain + (count - 1 if kv == "q4" else 0)
    snapshot = sequence.snapshot()
    held = fake.pages
    sequence.truncate(0)
    assert (fake.pages, fake.slots) == (held, 2)
    del snapshot
    assert (fake.pages, fake.slots) == (0, 1)
    del sequence
    assert (fake.pages, fake.slots) == (0, 0)


@pytest.mark.parametrize("kv", FORMATS)
def test_pages_that_only_snapshots_hold_are_elsewhere_until_a_sequence_uses_them(
    fake: kernels.Fake, model: _core.Model, kv: Kv
) -> None:
    text, other = tokens(900), tokens(700, 1)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(text[:600], logits="none")
    first = sequence.snapshot()
    sequence.append(text[600:], logits="none")
    second, held = sequence.snapshot(), fake.pages
    assert fake.saved_pages == 0
    fork = sequence.fork()
    sequence.truncate(0)
    sequence.append([5], logits="none")
    gone = fake.saved_pages  # of the first snapshot's, what the fork does not have
    assert 0 < gone < 4
    assert model.saved_page_bytes == gone * first.pages[0].n_bytes
    fork.append([6], logits="none")
    assert sees(fake, [*text, 6])
    del fork
    sequence.append(other, logits="none")
    assert fake.saved_pages == held
    data = [page.data().tobytes() for page in second.pages]
    sequence.restore(first)
    sequence.append([7], logits="none")
    assert sees(fake, [*text[:600], 7])
    sequence.restore(second)
    sequence.append([8], logits="none")
    assert sees(fake, [*text, 8])
    assert data == [page.data().tobytes() for page in second.pages]
    del first, second
    assert (fake.saved_pages, model.saved_page_bytes) == (0, 0)


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("length", [1, 250, 510, 766, 1022])
def test_rows_that_are_taken_back_are_seen_by_nobody(
    fake: kernels.Fake, model: _core.Model, kv: Kv, length: int
) -> None:
    text, wrong = tokens(length + 30), tokens(8, 1)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(text[:length], logits="none")
    for accepted in (0, 3, 8, 1, 5):
        at = len(sequence)
        drafted = text[at + 1 : at + 1 + accepted] + wrong[accepted:]
        fork = sequence.fork()
        for user in (sequence, fork):
            user.append([text[at], *drafted], logits="none", uncertain=8)
            assert sees(fake, [*text[: at + 1], *drafted])
            user.rewind(at + 1 + accepted)
    assert sequence.tokens.tolist() == text[: len(sequence)]
    sequence.append([7], logits="none")
    assert sees(fake, [*text[: len(sequence) - 1], 7])
