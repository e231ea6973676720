"""Tokens that are taken back leave no trace: any pattern of drafts accepted and rejected gives the bits of plain
decoding, in every KV format, across the ends of chunks, pages and contexts, with neighbours and snapshots between."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import random_tokens

from qwen35_local import _core
from qwen35_local.errors import InputError

FORMATS = ("f32", "f16", "q8", "q4", "k8v4")
DRAFTS = 8
TEXT = random_tokens(1400, seed=11)
OTHER = random_tokens(400, seed=12)  # what a draft proposes that is wrong


@cache
def plain(path: Any, kv: Any) -> np.ndarray:
    """Logits of every token of the text, evaluated without drafts."""
    return _core.Sequence(_core.Model(path, threads=2), kv=kv).append(TEXT, logits="all")


@cache
def drafting(path: Any, threads: int) -> _core.Model:
    return _core.Model(path, threads=threads, drafts=DRAFTS)


def verify(sequence: Any, accepted: int, rejected: int, certain: int = 1, **options: Any) -> np.ndarray:
    """A pass over `certain` tokens of the text and drafts, of which the first `accepted` are the text's; those behind
    are taken back. Returns the logits of what stays."""
    at = len(sequence)
    stays = at + certain + accepted
    tokens = TEXT[at:stays] + [(t + at) % 250 for t in OTHER[:rejected]]
    logits = sequence.append(tokens, logits="all", uncertain=accepted + rejected, **options)
    assert sequence.committed == at + certain
    sequence.rewind(stays)
    assert len(sequence) == stays
    return logits[: certain + accepted]


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("variety", [{}, {"moe": True}], ids=str)
def test_every_pattern_of_few_drafts(tiny: Any, variety: dict[str, Any], kv: Any) -> None:
    """Twice every number of drafts and of accepted ones, from every place in a chunk."""
    path = tiny(**variety).path
    model = drafting(path, 1)
    for start in range(20, 24):
        base = _core.Sequence(model, kv=kv)
        base.append(TEXT[:start], logits="none")
        for drafted in range(1, 6):
            for accepted in range(drafted + 1):
                sequence = base.fork()
                for _ in range(2):
                    at = len(sequence)
                    logits = verify(sequence, accepted, drafted - accepted)
                    assert np.array_equal(logits, plain(path, kv)[at : at + len(logits)])
                rest = sequence.append(TEXT[len(sequence) : len(sequence) + 5], logits="all")
                assert np.array_equal(rest, plain(path, kv)[len(sequence) - 5 : len(sequence)])


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("end", [256, 512, 768, 1024])
def test_page_ends(tiny: Any, end: int, kv: Any) -> None:
    """A page that uncertain rows fill: some of them, all or none are taken back, and it fills again."""
    path = tiny(moe=end == 1024).path
    model = drafting(path, 2)
    base = _core.Sequence(model, kv=kv)
    base.append(TEXT[: end - 5], logits="none")
    for accepted in range(DRAFTS + 1):
        sequence = base.fork()
        verify(sequence, accepted, DRAFTS - accepted)
        verify(sequence, 0, 6)
        at = len(sequence)
        found = sequence.append(TEXT[at : end + 300], logits="all")
        assert np.array_equal(found, plain(path, kv)[at : end + 300])


@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_the_end_of_the_context(tiny: Any, kv: Any) -> None:
    path = tiny().path
    sequence = _core.Sequence(_core.Model(path, drafts=DRAFTS), context_tokens=260, kv=kv)
    sequence.append(TEXT[:254], logits="none")
    with pytest.raises(InputError, match="254 of 260"):
        sequence.append(TEXT[254:261], uncertain=6)
    for accepted, rejected in ((2, 3), (0, 2), (1, 0)):
        verify(sequence, accepted, rejected)
    assert len(sequence) == 260
    with pytest.raises(InputError, match="260 of 260"):
        sequence.append(TEXT[260:261], uncertain=1)
    sequence.rewind(259)
    assert np.array_equal(sequence.append(TEXT[259:260]), plain(path, kv)[259:260])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["verify", "append", "snapshot", "restore", "fork", "neighbour", "truncate"]),
        st.integers(0, DRAFTS),
        st.integers(0, DRAFTS),
        st.integers(0, 3),
    ),
    min_size=3,
    max_size=12,
)


@pytest.mark.parametrize("variety", [{}, {"moe": True}], ids=str)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(kv=st.sampled_from(FORMATS), start=st.integers(0, 1050), threads=st.integers(1, 3), steps=STEPS)
def test_any_pattern_is_plain_decoding(
    tiny: Any, variety: dict[str, Any], kv: Any, start: int, threads: int, steps: list[tuple[str, int, int, int]]
) -> None:
    path = tiny(**variety).path
    model = drafting(path, threads)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(TEXT[:start], logits="none")
    snapshots: list[_core.Snapshot] = []
    for what, a, b, certain in steps:
        at, uncertain = len(sequence), max(a, b)
        own = certain + min(a, uncertain)
        draft = TEXT[at : at + own] + OTHER[: uncertain - (own - certain)]
        if what in ("verify", "neighbour") and draft:
            batch: list[Any] = [(sequence, draft, "all", (), uncertain)]
            if what == "neighbour":
                batch.insert(0, (_core.Sequence(model, kv="q4"), OTHER[: 5 + a], "none"))
                batch.append((_core.Sequence(model), OTHER[:3], "last", (), 2))
            logits = model.forward(batch, chunk_tokens=max(uncertain, 2) + b)[what == "neighbour"]
            assert sequence.committed == at + certain and len(sequence) == at + len(draft)
            if b % 3 == 1:  # as it stands, rejected tokens and all
                snapshots.append(sequence.snapshot())
            sequence.rewind(at + own)
            assert np.array_equal(logits[:own], plain(path, kv)[at : at + own])
        elif what == "append":
            count = 1 + 20 * certain
            found = sequence.append(TEXT[at : at + count], logits="all", chunk_tokens=1 + 7 * a)
            assert np.array_equal(found, plain(path, kv)[at : at + count])
        elif what == "snapshot":
            snapshots.append(sequence.snapshot())
        elif what == "restore" and snapshots:
            sequence.restore(snapshots[a % len(snapshots)])
            own = sequence.tokens.tolist()
            stays = next((i for i, (x, y) in enumerate(zip(own, TEXT, strict=False)) if x != y), len(own))
            sequence.rewind(stays)
        elif what == "fork":
            sequence = sequence.fork()
        elif what == "truncate":
            sequence.truncate(max(0, at - a))
    at = len(sequence)
    assert sequence.tokens.tolist() == TEXT[:at]
    assert np.array_equal(sequence.append(TEXT[at : at + 260], logits="all"), plain(path, kv)[at : at + 260])


def test_a_wrong_commit_is_found(tiny: Any) -> None:
    """Tokens that were certain and are not the text's: what the comparison would see of rows that were committed."""
    path = tiny().path
    model = _core.Model(path, drafts=DRAFTS)
    sequence = _core.Sequence(model)
    sequence.append(TEXT[:21] + OTHER[:2], logits="none", uncertain=1)
    sequence.rewind(22)
    assert not np.array_equal(sequence.append(TEXT[22:24], logits="all"), plain(path, "f16")[22:24])


def variants(snapshot: _core.Snapshot, model: _core.Model, kv: Any) -> Iterator[_core.Snapshot]:
    yield snapshot
    pages: list[Any] = [page.data() if i % 2 else page for i, page in enumerate(snapshot.pages)]
    yield _core.Snapshot.assemble(
        model,
        kv=kv,
        tokens=snapshot.tokens,
        committed=snapshot.committed,
        pages=pages,
        state=snapshot.state(),
    )


@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("length", [30, 765, 1021])
def test_a_snapshot_holds_the_uncertain_tokens(tiny: Any, length: int, kv: Any) -> None:
    path = tiny(moe=True).path
    model = _core.Model(path, drafts=DRAFTS)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(TEXT[:length], logits="none")
    sequence.append(TEXT[length : length + 4] + OTHER[:3], logits="none", uncertain=6)
    for taken in variants(sequence.snapshot(), model, kv):
        assert (taken.committed, len(taken)) == (length + 1, length + 7)
        for stays in range(length + 1, length + 5):
            other = _core.Sequence(model, kv=kv)
            other.append(OTHER[:50], logits="none")
            other.restore(taken)
            assert (other.committed, len(other)) == (length + 1, length + 7)
            other.rewind(stays)
            found = other.append(TEXT[stays : stays + 260], logits="all")
            assert np.array_equal(found, plain(path, kv)[stays : stays + 260])


def test_truncate_evaluates_nothing_where_rewind_reaches(tiny: Any) -> None:
    model = _core.Model(tiny().path, drafts=DRAFTS)
    sequence = _core.Sequence(model)
    sequence.append(TEXT[:40], logits="none", uncertain=DRAFTS)
    kept = sequence.snapshot()
    assert sequence.truncate(33) == 0
    assert sequence.truncate(31) == 31
    sequence.append(TEXT[31:60], logits="none")
    assert sequence.truncate(36) == 0  # through the snapshot
    assert len(kept) == 40 and len(sequence) == 36


def test_what_cannot_be_taken_back(tiny: Any) -> None:
    model = _core.Model(tiny().path, drafts=3)
    sequence = _core.Sequence(model)
    sequence.append(TEXT[:10], logits="none")
    for n in (9, 11):
        with pytest.raises(InputError, match=f"cannot rewind to {n} tokens"):
            sequence.rewind(n)
    with pytest.raises(InputError, match="4 uncertain tokens, expected at most 3"):
        sequence.append(TEXT[10:15], uncertain=4)
    with pytest.raises(InputError, match="2 uncertain tokens, expected at most 1"):
        sequence.append(TEXT[10:11], uncertain=2)
    with pytest.raises(InputError, match=r"a pass of 2 rows .*expected at least the 3 uncertain"):
        sequence.append(TEXT[10:15], uncertain=3, chunk_tokens=2)
    with pytest.raises(InputError, match="drafts is 17"):
        _core.Model(tiny().path, drafts=17)
    assert len(sequence) == 10


def test_no_drafts_no_memory(tiny: Any) -> None:
    path = tiny().path
    sizes = [_core.Sequence(_core.Model(path, drafts=n)).state_bytes for n in (0, 1, 8, 16)]
    assert sizes[0] <= sizes[1] < sizes[2] < sizes[3]
    with pytest.raises(InputError, match="expected at most 0"):
        _core.Sequence(_core.Model(path)).append([1, 2], uncertain=1)
