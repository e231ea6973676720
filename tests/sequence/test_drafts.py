"""What is kept for the block that drafts (docs/architecture.md 5): its keys and values, a token behind those of the
layers, and the hidden rows that the next pair of each token that may stay needs."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
from random_model import random_tokens, relative_error

from qwen35_local import _core
from qwen35_local._core import kernels
from qwen35_local.engine.model_input import ModelInput, input_rows
from qwen35_local.models.positions import InputRows, grid_positions

Kv = Literal["f32", "f16", "q8", "q4", "k8v4"]
FORMATS: list[Kv] = ["f32", "f16", "q8", "q4", "k8v4"]
VARIETIES: list[dict[str, Any]] = [{"mtp": True}, {"mtp": True, "moe": True}]
PAGE = 256
TEXT = random_tokens(1100, seed=21)
WRONG = random_tokens(16, seed=22)


@cache
def model_of(path: Any) -> _core.Model:
    return _core.Model(path, drafts=8, threads=2)


def pages(sequence: _core.Sequence) -> list[bytes]:
    return [page.data().tobytes() for page in sequence.snapshot().pages]


def pairs(sequence: _core.Sequence, device: str, heads: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values [pairs, heads, width] of the block that drafts, of a sequence in f32."""
    count = max(len(sequence) - 1, 0)
    kept = sequence.snapshot().pages[-((count + PAGE - 1) // PAGE) :]
    plain = np.concatenate([page.data().view(np.float32).reshape(2, -1) for page in kept], axis=1)
    shape = (len(kept), heads, PAGE, width)
    halves = plain.reshape(2, len(kept), -1)
    keys = halves[0].reshape(shape)
    if device.startswith("cpu"):  # sixteen tokens side by side
        keys = halves[0].reshape(len(kept), heads, PAGE // 16, width, 16).swapaxes(3, 4).reshape(shape)
    values = halves[1].reshape(shape)
    found = [half.swapaxes(1, 2).reshape(-1, heads, width)[:count] for half in (keys, values)]
    return found[0], found[1]


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_keys_and_values_are_the_references(tiny: Any, variety: dict[str, Any]) -> None:
    model = tiny(**variety)
    reference, text = model.reference(), TEXT[:300]
    state = reference.new_state()
    hidden = reference.hidden(text, state)
    reference.draft(text[1:], hidden[:-1], state)
    block = model.config.layers
    core = model_of(model.path)
    sequence = _core.Sequence(core, kv="f32")
    sequence.append(text, logits="none", chunk_tokens=70)
    keys, values = pairs(sequence, core.device, model.config.kv_heads, model.config.head_width)
    assert relative_error(keys, state.keys[block]) < 1e-4
    assert relative_error(values, state.values[block]) < 1e-4


@pytest.mark.parametrize("cut", [1, 11, 12, 17, 18])
def test_pairs_stand_where_their_hidden_rows_do(tiny: Any, cut: int) -> None:
    """Behind and within an image too, wherever the rows are cut into passes."""
    model = tiny(mtp=True)
    width, text = model.config.hidden, TEXT[:40]
    picture = np.random.default_rng(3).normal(size=(6, width)).astype(np.float32)
    places = grid_positions(2, 3)
    asked = ModelInput(np.array(text, np.int32), ((12, input_rows(picture, places.astype(np.int32))),))
    reference = model.reference()
    state = reference.new_state()
    hidden = reference.hidden(text, state, [InputRows(12, picture.astype(np.float64), places)])
    reference.draft(text[1:], hidden[:-1], state)
    core = model_of(model.path)
    sequence = _core.Sequence(core, kv="f32")
    for part in (asked.part(0, cut), asked.part(cut, len(text))):
        sequence.append(part.tokens, inputs=part.inputs, logits="none")
    keys, values = pairs(sequence, core.device, model.config.kv_heads, model.config.head_width)
    is_text = np.array([not 12 <= p + 1 < 18 for p in range(len(text) - 1)])  # the reference drafts from tokens alone
    assert relative_error(keys[is_text], state.keys[model.config.layers][is_text]) < 1e-4
    assert relative_error(values[is_text], state.values[model.config.layers][is_text]) < 1e-4


def by_chunks(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    sequence.append(TEXT[:count], logits="none", chunk_tokens=37)


def by_tokens(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    sequence.append(TEXT[: count - 40], logits="none")
    for token in TEXT[count - 40 : count]:
        sequence.append([token], logits="none")


def by_drafts(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    """Of 8 drafts, every number is accepted by turns."""
    sequence.append(TEXT[: count - 120], logits="none")
    turn = 0
    while len(sequence) < count:
        at, accepted = len(sequence), min(turn % 9, count - len(sequence) - 1)
        drafts = TEXT[at + 1 : at + 1 + accepted] + WRONG[: 8 - accepted]
        sequence.append([TEXT[at], *drafts], logits="last", uncertain=8)
        sequence.rewind(at + 1 + accepted)
        turn += 1
    assert turn > 15


def all_uncertain(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    """From the first token on, nothing certain in a pass."""
    for wrong in (WRONG[:8], TEXT[:5] + WRONG[:3]):
        sequence.append(wrong, logits="none", uncertain=8)
        sequence.rewind(0)
    sequence.append(TEXT[:3], logits="none", uncertain=3)
    sequence.rewind(2)
    sequence.append(TEXT[2:count], logits="none")


def beside_others(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    other = _core.Sequence(model, kv="f16")
    at = 0
    for take in (1, 1, 200, 55, 300):
        model.forward([(other, WRONG[:3], "none"), (sequence, TEXT[at : at + take], "none")])
        at += take
    model.forward([(sequence, TEXT[at:count], "none"), (other, WRONG, "last")])


def from_snapshots(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    sequence.append(TEXT[:256], logits="none")
    sequence.append([TEXT[256], *TEXT[257:260], *WRONG[:4]], logits="none", uncertain=7)
    snapshot = sequence.snapshot()
    sequence.append(WRONG, logits="none")
    parts: dict[str, Any] = {"pages": [page.data() for page in snapshot.pages], "state": snapshot.state()}
    again = _core.Snapshot.assemble(
        model, kv=snapshot.kv, tokens=snapshot.tokens, committed=snapshot.committed, **parts
    )
    fork = sequence.fork()
    fork.restore(snapshot)
    sequence.restore(again)
    for user in (fork, sequence):
        user.rewind(260)
        user.append(TEXT[260:count], logits="none")
    assert pages(fork) == pages(sequence)


def from_the_nearest(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    """A snapshot of less is gone back to; the rest is evaluated again."""
    sequence.append(TEXT[:257], logits="none")
    snapshot = sequence.snapshot()
    sequence.append(TEXT[257:600] + WRONG, logits="none")
    assert sequence.truncate(600) == 343
    sequence.append(TEXT[600:count], logits="none")
    del snapshot


def by_any_number(model: _core.Model, sequence: _core.Sequence, count: int) -> None:
    """Fewer tokens than wait for their pairs, as many, and more; drafts and snapshots between."""
    sequence.append(TEXT[: count - 300], logits="none")
    for take in (1, 15, 16, 17, 1, 23, 24, 1, 25, 26, 2, 8, 33, 1, 1, 1, 24, 1):
        at = len(sequence)
        sequence.append(TEXT[at : at + take], logits="none")
        if take % 3 == 1:
            model.draft([(sequence, WRONG[0], take % 5 + 1)])
        if take % 5 == 1:
            sequence.restore(sequence.fork().snapshot())
    at = len(sequence)
    sequence.append(TEXT[at:count], logits="none")


WAYS: list[Callable[[_core.Model, _core.Sequence, int], None]] = [
    by_chunks,
    by_tokens,
    by_drafts,
    all_uncertain,
    beside_others,
    from_snapshots,
    from_the_nearest,
    by_any_number,
]


@cache
def expected(path: Any, kv: Kv, count: int) -> list[bytes]:
    sequence = _core.Sequence(model_of(path), kv=kv)
    sequence.append(TEXT[:count], logits="none")
    return pages(sequence)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_no_way_of_evaluating_changes_a_page(tiny: Any, variety: dict[str, Any], kv: Kv, way: Any) -> None:
    """Bit by bit, where the block's pages are full with the layers' own, a token later, and two."""
    path = tiny(**variety).path
    for count in (768, 769, 770):
        sequence = _core.Sequence(model_of(path), kv=kv)
        way(model_of(path), sequence, count)
        sequence.append(TEXT[count : count + 1], logits="none")  # nothing is uncertain behind it
        assert sequence.tokens.tolist() == TEXT[: count + 1]
        assert pages(sequence) == expected(path, kv, count + 1)


def test_every_token_is_paired_with_the_one_before(tiny: Any) -> None:
    fake = kernels.Fake()
    sequence = _core.Sequence(fake.model(tiny(mtp=True).path), kv="f16")
    for take, uncertain, rewound in ((1, 0, 0), (2, 2, 2), (9, 8, 5), (250, 3, 3), (7, 5, 0), (256, 0, 0), (9, 8, 8)):
        at = len(sequence)
        fake.clear_events()
        sequence.append(TEXT[at : at + take], logits="none", uncertain=uncertain)
        (seen,) = [histories for name, _, histories in fake.events if name == "previous_rows"]
        assert seen == [[TEXT[p - 1] if p else 0 for p in range(at, at + take)]]
        sequence.rewind(at + take - rewound)
        kept = [page.data().view(np.int32) for page in sequence.snapshot().pages[-(-len(sequence) // PAGE) :]]
        assert np.concatenate([*kept, []])[: len(sequence) - 1].tolist() == TEXT[1 : len(sequence)]


def test_pairs_of_a_few_tokens_are_written_together(tiny: Any) -> None:
    """The block's weights are read for 17 tokens at once, or when it drafts; the keys and values of the layers with
    every one."""
    fake = kernels.Fake()
    model = fake.model(tiny(mtp=True).path)
    sequence = _core.Sequence(model, kv="f16")
    sequence.append(TEXT[:100], logits="none")
    written = []
    for at in range(100, 200):
        fake.clear_events()
        sequence.append(TEXT[at : at + 1], logits="none")
        written += [histories[0] for name, _, histories in fake.events if name == "kept_rows"]
    assert [len(pairs) for pairs in written] == [len(written[0])] * len(written)
    assert 16 <= len(written[0]) <= 32
    assert [token for pairs in written for token in pairs] == TEXT[99 : 99 + len(written) * len(written[0])]
    fake.clear_events()
    model.draft([(sequence, TEXT[200], 3)])
    late, last = [histories for name, _, histories in fake.events if name == "kept_rows"]
    assert late == [TEXT[99 + len(written) * len(written[0]) : 199]]
    assert last == [[TEXT[199]]]


def test_without_drafts_nothing_is_kept_for_them(tiny: Any) -> None:
    def taken(drafts: int, **variety: Any) -> tuple[int, int]:
        sequence = _core.Sequence(_core.Model(tiny(**variety).path, drafts=drafts))
        sequence.append(TEXT[:300], logits="none")
        return sequence.state_bytes, len(sequence.snapshot().pages)

    assert taken(0, mtp=True) == taken(0)
    assert taken(1, mtp=True)[0] > taken(1)[0]
    assert [taken(1, mtp=True)[1], taken(1)[1]] == [4, 2]
