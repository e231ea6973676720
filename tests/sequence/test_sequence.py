"""One timeline: however its tokens are cut, batched, snapshot, forked or taken back, its logits have the same bits."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import random_tokens

from qwen35_local import _core
from qwen35_local.errors import InputError

TOKENS = random_tokens(600, seed=5)
VARIETIES = [
    {},
    {"moe": True, "ratio": 3},
    {"wide": True, "dtype": "Q4_K"},
    {"wide": True, "dtype": "Q6_K", "moe": True, "fused": True},
    {"layers": 7, "full_attention_interval": 2},
]


def whole(model: _core.Model, tokens: list[int], kv: Any = "f16") -> np.ndarray:
    return _core.Sequence(model, kv=kv).append(tokens, logits="all")


@pytest.mark.parametrize(("variety", "kv"), [*((v, "f16") for v in VARIETIES), ({}, "f32")], ids=str)
def test_cuts_threads_and_chunks_change_nothing(tiny: Any, variety: dict[str, Any], kv: Any) -> None:
    path = tiny(**variety).path
    tokens = TOKENS[:270]
    expected = whole(_core.Model(path, threads=1), tokens, kv)
    random = np.random.default_rng(0)
    models = {threads: _core.Model(path, threads=threads) for threads in (1, 2, 3)}
    for threads, most, stop in ((1, 1, 20), (1, 64, 270), (2, 2, 20), (2, 300, 270), (3, 7, 30), (3, 200, 270)):
        sequence = _core.Sequence(models[threads], kv=kv)
        rows: list[Any] = []
        while len(sequence) < stop:
            at, count = len(sequence), int(random.integers(1, most + 1))
            chunk = int(random.integers(most // 3 + 1, 2 * most + 1))
            rows.append(sequence.append(tokens[at : min(at + count, stop)], logits="all", chunk_tokens=chunk))
        assert np.array_equal(np.concatenate(rows), expected[:stop])


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_other_sequences_in_the_batch_change_nothing(tiny: Any, variety: dict[str, Any]) -> None:
    model = _core.Model(tiny(**variety).path, threads=2)
    random = np.random.default_rng(1)
    streams = [random_tokens(60, seed=s) for s in range(4)]
    expected = [whole(model, stream) for stream in streams]
    for chunk in (5, 33, 512):
        sequences = [_core.Sequence(model) for _ in streams]
        while any(len(s) < 60 for s in sequences):
            batch: list[Any] = []
            for i in random.permutation(len(streams)):
                at = len(sequences[i])
                count = int(random.choice([0, 1, 9, 40]))
                wanted = random.choice(["none", "all", "last"]) if streams[i][at : at + count] else "none"
                batch.append((sequences[i], streams[i][at : at + count], str(wanted)))
            starts = [len(s) for s, _, _ in batch]
            answers = model.forward(batch, chunk_tokens=chunk)
            for (sequence, tokens, wanted), start, logits in zip(batch, starts, answers, strict=True):
                rows = expected[sequences.index(sequence)][start : start + len(tokens)]
                rows = {"none": rows[:0], "last": rows[-1:], "all": rows}[wanted]
                assert len(sequence) == start + len(tokens)
                assert np.array_equal(logits, rows)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_order_of_operations_is_a_plain_reading(tiny: Any, data: st.DataObject) -> None:
    model = _core.Model(tiny().path, threads=1)
    sequence = _core.Sequence(model)
    tokens: list[int] = []
    others: list[tuple[_core.Sequence, list[int]]] = []
    snapshots: list[tuple[_core.Snapshot, list[int]]] = []
    for step in range(data.draw(st.integers(2, 12))):
        action = data.draw(st.sampled_from(["append", "snapshot", "restore", "fork", "truncate", "forget", "swap"]))
        if action == "append":
            count = data.draw(st.sampled_from([1, 3, 17, 100, 256]))
            new = random_tokens(count, seed=step)
            sequence.append(new, logits="none")
            tokens = tokens + new
        elif action == "snapshot":
            snapshots.append((sequence.snapshot(), tokens))
        elif action == "restore" and snapshots:
            snapshot, tokens = data.draw(st.sampled_from(snapshots))
            sequence.restore(snapshot)
        elif action == "fork":
            others.append((sequence.fork(), tokens))
        elif action == "truncate":
            n = data.draw(st.integers(0, len(tokens)))
            assert 0 <= sequence.truncate(n) <= n
            tokens = tokens[:n]
        elif action == "forget":
            snapshots = snapshots[1:]
        elif action == "swap" and others:
            others.append((sequence, tokens))
            sequence, tokens = others.pop(0)
        assert len(sequence) == len(tokens)
        assert sequence.tokens.tolist() == tokens
    for end, read in [*others, (sequence, tokens)]:
        assert end.tokens.tolist() == read
        assert np.array_equal(end.append([7])[0], whole(model, [*read, 7])[-1])
    for snapshot, read in snapshots:
        assert (len(snapshot), snapshot.tokens.tolist()) == (len(read), read)


PACKED = ("q8", "q4", "k8v4")
LONG_TOKENS = random_tokens(1500, seed=6)


@pytest.mark.parametrize("kv", PACKED)
@pytest.mark.parametrize("variety", [{}, {"moe": True}], ids=str)
def test_packed_caches_do_not_see_cuts_threads_and_neighbours(tiny: Any, variety: dict[str, Any], kv: Any) -> None:
    path = tiny(**variety).path
    tokens = LONG_TOKENS[:1300]
    expected = whole(_core.Model(path, threads=1), tokens, kv)
    random = np.random.default_rng(3)
    for threads, most in ((1, 200), (2, 600), (3, 700)):
        model = _core.Model(path, threads=threads)
        sequence, other = _core.Sequence(model, kv=kv), _core.Sequence(model, kv="q4")
        while (at := len(sequence)) < len(tokens):
            part = tokens[at : at + int(random.integers(1, most + 1))]
            batch: list[Any] = [(other, LONG_TOKENS[at : at + 7], "none"), (sequence, part, "all")]
            logits = model.forward(batch, chunk_tokens=int(random.integers(1, 700)))[1]
            assert np.array_equal(logits, expected[at : at + len(part)])


@pytest.mark.parametrize("kv", ["f16", *PACKED])
@pytest.mark.parametrize("length", [1, 256, 767, 768, 1100])
def test_a_snapshot_put_together_from_its_parts_is_the_same(tiny: Any, kv: Any, length: int) -> None:
    model = _core.Model(tiny(moe=True).path, threads=2)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(LONG_TOKENS[:length], logits="none")
    taken = sequence.snapshot()
    expected = sequence.append(LONG_TOKENS[length : length + 300], logits="all")
    parts: list[Any] = [page.data() if i % 2 else page for i, page in enumerate(taken.pages)]
    copy = _core.Snapshot.assemble(model, kv=kv, tokens=taken.tokens, pages=parts, state=taken.state())
    assert copy.kv == kv and copy.tokens.tolist() == LONG_TOKENS[:length]
    assert [a.id == b.id for a, b in zip(taken.pages, copy.pages, strict=True)] == [
        i % 2 == 0 for i in range(len(parts))
    ]
    sequence.restore(copy)
    assert np.array_equal(sequence.append(LONG_TOKENS[length : length + 300], logits="all"), expected)
    for damaged in (
        {"pages": parts[1:]},
        {"pages": [np.zeros(5, np.uint8), *parts[1:]]},
        {"state": np.zeros(3, np.uint8)},
    ):
        given: Any = {"kv": kv, "tokens": taken.tokens, "pages": parts, "state": taken.state()} | damaged
        with pytest.raises(InputError, match="expected"):
            _core.Snapshot.assemble(model, **given)


@pytest.mark.parametrize("kv", PACKED)
def test_packed_caches_let_go_of_what_nobody_reads(tiny: Any, kv: Any) -> None:
    model = _core.Model(tiny().path)
    sequence = _core.Sequence(model, kv=kv)
    empty, page = sequence.state_bytes, 2 * 256 * 2 * 32 * 2  # keys and values, positions, heads, width, fp16
    bits = {"q8": 8.5, "q4": 4.5, "k8v4": 6.5}[kv]
    for length, open_pages, quantised_pages in ((200, 1, 0), (767, 3, 1), (768, 2, 2), (1100, 3, 3), (1500, 3, 4)):
        sequence.append(LONG_TOKENS[len(sequence) : length], logits="none", chunk_tokens=100)
        assert sequence.state_bytes - empty == page * open_pages + page * bits / 16 * quantised_pages


@pytest.mark.parametrize("length", [1, 200, 256, 300])
@pytest.mark.parametrize("kv", ["f32", "f16", *PACKED])
def test_restore_is_exact_and_leaves_the_snapshot_alone(tiny: Any, kv: Any, length: int) -> None:
    model = _core.Model(tiny(moe=True).path, threads=2)
    sequence = _core.Sequence(model, kv=kv)
    sequence.append(TOKENS[:length], logits="none")
    snapshot = sequence.snapshot()
    first = sequence.append(TOKENS[length : length + 30], logits="all")
    elsewhere = _core.Sequence(model, kv=kv)
    elsewhere.append(TOKENS[400:500], logits="none")
    for user in (sequence, elsewhere, sequence):
        user.restore(snapshot)
        assert user.tokens.tolist() == TOKENS[:length]
        user.append(TOKENS[300:340], logits="none")  # another future, on the shared page
        user.restore(snapshot)
        assert np.array_equal(user.append(TOKENS[length : length + 30], logits="all"), first)


def test_a_snapshot_outlives_its_sequence_and_pins_pages(tiny: Any) -> None:
    model = _core.Model(tiny().path)
    sequence = _core.Sequence(model)
    empty = sequence.state_bytes
    sequence.append(TOKENS[:300], logits="none")
    page = (sequence.state_bytes - empty) // 2
    assert sequence.state_bytes == empty + 2 * page
    snapshot = sequence.snapshot()
    assert snapshot.n_bytes == empty + 4 * 300  # no page among them
    expected = sequence.append([1])
    del sequence
    other = _core.Sequence(model)
    other.restore(snapshot)
    del snapshot
    assert np.array_equal(other.append([1]), expected)


def test_truncate_starts_from_the_nearest_living_snapshot(tiny: Any) -> None:
    model = _core.Model(tiny().path)
    sequence = _core.Sequence(model)
    sequence.append(TOKENS[:100], logits="none")
    early = sequence.snapshot()
    sequence.append(TOKENS[100:200], logits="none")
    late = sequence.snapshot()
    sequence.append(TOKENS[200:300], logits="none")
    assert sequence.truncate(300) == 0
    assert sequence.truncate(250) == 50
    assert sequence.truncate(200) == 0
    assert sequence.truncate(150) == 50
    sequence.append(TOKENS[:60], logits="none")  # another future: `late` is no longer a prefix
    assert sequence.truncate(205) == 105
    twin = sequence.fork()
    del late, early
    assert twin.truncate(120) == 120
    assert sequence.truncate(0) == 0
    assert len(sequence) == 0
    assert np.array_equal(sequence.append(TOKENS[:20], logits="all"), whole(model, TOKENS[:20]))


def test_what_cannot_be_read_changes_nothing(tiny: Any) -> None:
    core = tiny()
    model = _core.Model(core.path)
    a, b = (_core.Sequence(model, context_tokens=50) for _ in range(2))
    a.append(TOKENS[:45], logits="none")
    for bad in (-1, 300, 2**31 - 1, 2**31, -(2**40), 2**70):
        with pytest.raises(InputError, match=str(bad)):
            a.append([1, 2, bad])
        with pytest.raises(InputError):
            model.forward([(b, [1, 2], "last"), (a, [3, bad], "last")], chunk_tokens=1)
    with pytest.raises(InputError, match="45 of 50"):
        a.append(TOKENS[:6])
    with pytest.raises(InputError):
        model.forward([(b, TOKENS[:10], "none"), (a, TOKENS[:6], "none")], chunk_tokens=1)
    with pytest.raises(InputError, match="same sequence"):
        model.forward([(a, [1], "none"), (b, [1], "none"), (a, [1], "none")])
    with pytest.raises(InputError, match="no tokens"):
        a.append([])
    with pytest.raises(InputError, match="another model"):
        _core.Model(core.path).forward([(a, [1], "last")])
    for chunk in (0, -1, 10**6, 2**70):
        with pytest.raises(InputError, match="chunk_tokens"):
            a.append([1], chunk_tokens=chunk)
    with pytest.raises(InputError, match="logits"):
        a.append([1], logits="first")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dimensions"):
        a.append(np.zeros((2, 2), np.int32))
    for nonsense in (["x"], [1.5], [None], 3):
        with pytest.raises(TypeError):
            a.append(nonsense)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="truncate"):
        a.truncate(46)
    with pytest.raises(InputError):
        a.truncate(-1)
    assert (len(a), len(b)) == (45, 0)
    assert np.array_equal(a.append(TOKENS[45:50], logits="all"), whole(model, TOKENS[:50])[45:])
    with pytest.raises(InputError, match="50 of 50"):
        a.append([1])


def test_what_a_sequence_cannot_be(tiny: Any) -> None:
    core = tiny()
    model = _core.Model(core.path)
    assert _core.Sequence(model).context_tokens == model.context_tokens == 4096
    with pytest.raises(InputError, match="4096"):
        _core.Sequence(model, context_tokens=4097)
    with pytest.raises(InputError, match="kv"):
        _core.Sequence(model, kv="q3")  # type: ignore[arg-type]
    sequence = _core.Sequence(model)
    sequence.append(TOKENS[:20], logits="none")
    snapshot = sequence.snapshot()
    with pytest.raises(InputError, match="another model"):
        _core.Sequence(_core.Model(core.path)).restore(snapshot)
    with pytest.raises(InputError, match="format"):
        _core.Sequence(model, kv="f32").restore(snapshot)
    with pytest.raises(InputError, match="context_tokens 19"):
        _core.Sequence(model, context_tokens=19).restore(snapshot)


def test_tokens_of_every_spelling(tiny: Any) -> None:
    model = _core.Model(tiny().path)
    expected = whole(model, TOKENS[:9])
    spellings: list[Any] = [
        np.array(TOKENS[:9], np.int32),
        np.array(TOKENS[:9], np.int64),
        np.array([t for t in TOKENS[:9] for _ in range(2)], np.int32)[::2],
        tuple(TOKENS[:9]),
        [np.uint16(t) for t in TOKENS[:9]],
    ]
    for tokens in spellings:
        sequence = _core.Sequence(model)
        assert np.array_equal(sequence.append(tokens, logits="all"), expected)
        assert sequence.tokens.dtype == np.int32
    assert model.forward([]) == []
    sequence = _core.Sequence(model)
    assert sequence.append([], logits="none").shape == sequence.append([], logits="all").shape == (0, 300)
    assert sequence.append([4], logits="none").shape == (0, 300)


def test_threads_with_a_sequence_each(tiny: Any) -> None:
    model = _core.Model(tiny(moe=True).path, threads=2)
    streams = [random_tokens(80, seed=s) for s in range(4)]
    expected = [whole(model, stream) for stream in streams]
    found: list[Any] = [None] * 4

    def work(i: int) -> None:
        sequence = _core.Sequence(model)
        rows = []
        for at in range(0, 80, 8):
            rows.append(sequence.append(streams[i][at : at + 8], logits="all", chunk_tokens=3 + i))
            sequence.restore(sequence.snapshot())
        found[i] = np.concatenate(rows)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows, wanted in zip(found, expected, strict=True):
        assert np.array_equal(rows, wanted)
