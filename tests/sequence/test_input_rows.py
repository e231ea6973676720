"""Rows that are not tokens in a sequence: their values, their positions, and that content tells two blocks apart."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from random_model import RandomModel, random_tokens, relative_error

from qwen35_local import _core
from qwen35_local.errors import InputError
from qwen35_local.models.positions import InputRows, grid_positions, text_positions

PAD = 299  # the id that stands in the place of every row of an image
VARIETIES: list[dict[str, Any]] = [{}, {"moe": True, "ratio": 3}, {"layers": 2, "full_attention_interval": 1}]


class Prompt(NamedTuple):
    """Tokens, and blocks in the place of some: as the core takes them and as the numpy page does."""

    tokens: list[int]
    inputs: list[tuple[int, _core.InputRows]]
    page: list[InputRows]

    def part(self, first: int, last: int) -> tuple[list[int], list[tuple[int, _core.InputRows]]]:
        inputs = [(at - first, rows) for at, rows in self.inputs if at < last and at + len(rows) > first]
        return self.tokens[first:last], inputs


def rows_of(model: RandomModel, seed: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng([seed, 77]).standard_normal((count, model.config.hidden)).astype(np.float32)


def block(rows: NDArray[np.float32], positions: NDArray[np.int64], digest: int = 0) -> _core.InputRows:
    return _core.InputRows(rows, positions=positions.astype(np.int32), digest=bytes([digest] * 32))


def prompt(model: RandomModel, *parts: int | tuple[int, int, int], seed: int = 3) -> Prompt:
    """Parts: so many tokens of text, or an image (height, width, seed)."""
    tokens: list[int] = []
    inputs, page = [], []
    stream = random_tokens(2000, seed=seed)
    for part in parts:
        if isinstance(part, int):
            tokens += stream[len(tokens) : len(tokens) + part]
            continue
        positions = grid_positions(*part[:2])
        rows = rows_of(model, part[2], len(positions))
        inputs.append((len(tokens), block(rows, positions, part[2])))
        page.append(InputRows(len(tokens), rows, positions))
        tokens += [PAD] * len(positions)
    return Prompt(tokens, inputs, page)


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_rows_are_the_reference(tiny: Any, variety: dict[str, Any]) -> None:
    model = tiny(**variety)
    asked = prompt(model, 7, (5, 9, 1), 3, (2, 12, 2), 1, (1, 1, 3), 40)
    core = _core.Model(model.path, threads=2)
    sequence = _core.Sequence(core, kv="f32")
    logits = sequence.append(asked.tokens, inputs=asked.inputs, logits="all")
    assert relative_error(logits, model.reference().forward(asked.tokens, inputs=asked.page)) < 1e-4
    assert sequence.rope_delta == (9 - 45) + (12 - 24)
    assert sequence.tokens.tolist() == asked.tokens
    assert [(run[0], run[1], run[2]) for run in sequence.inputs] == [(7, 45, 9), (55, 24, 12), (80, 1, 1)]


def test_rows_of_the_table_at_positions_of_text_are_text(tiny: Any) -> None:
    """Bit by bit."""
    model = tiny()
    tokens = random_tokens(60, seed=9)
    core = _core.Model(model.path, threads=2)
    expected = _core.Sequence(core).append(tokens, logits="all")
    table = np.asarray(model.reference().weights["token_embd.weight"], np.float32)
    rows = block(table[tokens[10:30]], text_positions(0, 20))
    sequence = _core.Sequence(core)
    pads = [*tokens[:10], *[PAD] * 20, *tokens[30:]]
    assert np.array_equal(sequence.append(pads, inputs=[(10, rows)], logits="all"), expected)
    assert sequence.rope_delta == 0


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_cuts_change_nothing(tiny: Any, variety: dict[str, Any], kv: Any) -> None:
    """Also within a block, by the caller or by chunk_tokens."""
    model = tiny(**variety)
    asked = prompt(model, 250, (6, 7, 1), 2, (3, 50, 2), 20)
    core = _core.Model(model.path, threads=2)
    expected = _core.Sequence(core, kv=kv).append(asked.tokens, inputs=asked.inputs, logits="all")
    random = np.random.default_rng(4)
    for most in (3, 40, 200):
        sequence = _core.Sequence(core, kv=kv)
        rows: list[Any] = []
        while len(sequence) < len(asked.tokens):
            at = len(sequence)
            tokens, inputs = asked.part(at, at + int(random.integers(1, most + 1)))
            rows.append(
                sequence.append(tokens, inputs=inputs, logits="all", chunk_tokens=int(random.integers(1, most)))
            )
        assert np.array_equal(np.concatenate(rows), expected)


def test_other_sequences_in_the_batch_change_nothing(tiny: Any) -> None:
    model = tiny()
    core = _core.Model(model.path, threads=2)
    asked = [prompt(model, 20, (4, 6, 1), 30), prompt(model, 60, seed=5), prompt(model, (3, 3, 2), 9)]
    expected = [_core.Sequence(core).append(a.tokens, inputs=a.inputs, logits="all") for a in asked]
    for chunk in (7, 50, 512):
        sequences = [_core.Sequence(core) for _ in asked]
        batch = [(s, a.tokens, "all", a.inputs) for s, a in zip(sequences, asked, strict=True)]
        for found, wanted in zip(core.forward(batch, chunk_tokens=chunk), expected, strict=True):
            assert np.array_equal(found, wanted)


def test_snapshots_and_forks_keep_positions(tiny: Any) -> None:
    """Behind an image and within one, text and rows go on where they would have."""
    model = tiny()
    core = _core.Model(model.path, threads=1)
    asked = prompt(model, 12, (8, 8, 1), 15)
    expected = _core.Sequence(core).append(asked.tokens, inputs=asked.inputs, logits="all")
    for cut in (12, 40, 76, 80):
        sequence = _core.Sequence(core)
        sequence.append(*asked.part(0, cut)[:1], inputs=asked.part(0, cut)[1], logits="none")
        other = _core.Sequence(core)
        other.append(asked.tokens[:5], logits="none")
        other.restore(sequence.snapshot())
        for copy in (sequence.fork(), other):
            tokens, inputs = asked.part(cut, len(asked.tokens))
            assert np.array_equal(copy.append(tokens, inputs=inputs, logits="all"), expected[cut:])
            assert copy.rope_delta == 8 - 64


def test_a_snapshot_put_together_again_keeps_positions(tiny: Any) -> None:
    model = tiny()
    core = _core.Model(model.path, threads=1)
    asked = prompt(model, 12, (8, 8, 1), 15)
    sequence = _core.Sequence(core)
    sequence.append(asked.tokens[:80], inputs=asked.inputs, logits="none")
    taken = sequence.snapshot()
    assert taken.inputs == sequence.inputs == [(12, 64, 8, (0, 7, 7), bytes([1] * 32))]
    assert taken.rope_delta == 8 - 64
    parts: Any = {"pages": [page.data() for page in taken.pages], "state": taken.state()}
    again = _core.Snapshot.assemble(core, kv="f16", tokens=taken.tokens, inputs=taken.inputs, **parts)
    other = _core.Sequence(core)
    other.restore(again)
    assert np.array_equal(other.append(asked.tokens[80:]), sequence.append(asked.tokens[80:]))


@pytest.mark.parametrize(
    "inputs",
    [
        [(80, 64, 8)],  # behind the tokens
        [(12, 64, 65)],  # more positions than rows
        [(12, 64, 0)],
        [(12, 0, 0)],
        [(12, 64, 8), (40, 2, 1)],  # one in the other
        [(40, 2, 1), (12, 20, 8)],
        [(12, 90, 8), (70, 2, 1)],  # unfinished, and yet another behind it
        [(-1, 64, 8)],
        [(1 << 32, 64, 8)],
    ],
)
def test_runs_that_cannot_be_are_refused(tiny: Any, inputs: list[tuple[int, int, int]]) -> None:
    core = _core.Model(tiny().path, threads=1)
    sequence = _core.Sequence(core)
    sequence.append(random_tokens(80, seed=1), logits="none")
    taken = sequence.snapshot()
    parts: Any = {"pages": taken.pages, "state": taken.state()}
    runs = [(*run, (0, 0, 0), bytes(32)) for run in inputs]
    with pytest.raises(InputError, match="input"):
        _core.Snapshot.assemble(core, kv="f16", tokens=taken.tokens, inputs=runs, **parts)
    with pytest.raises(InputError, match="32 bytes"):
        _core.Snapshot.assemble(core, kv="f16", tokens=taken.tokens, inputs=[(3, 2, 1, (0, 0, 0), b"short")], **parts)
    with pytest.raises(InputError, match="take 4 positions"):  # of which the last row has the fifth
        _core.Snapshot.assemble(core, kv="f16", tokens=taken.tokens, inputs=[(12, 9, 4, (0, 4, 1), bytes(32))], **parts)


def test_two_blocks_under_the_same_ids_are_two(tiny: Any) -> None:
    """Going back to a prefix: the state behind one image is not taken for the state behind another."""
    model = tiny()
    core = _core.Model(model.path, threads=1)
    one, two = prompt(model, 12, (4, 4, 1), 30), prompt(model, 12, (4, 4, 2), 30)
    assert one.tokens == two.tokens
    expected = _core.Sequence(core).append(two.tokens, inputs=two.inputs, logits="all")
    sequence = _core.Sequence(core)
    sequence.append(one.tokens[:30], inputs=one.inputs, logits="none")
    behind_one = sequence.snapshot()
    sequence.truncate(0)
    sequence.append(two.tokens[:29], inputs=two.inputs, logits="none")
    behind_two = sequence.snapshot()
    sequence.append(two.tokens[29:], logits="none")
    # 30 tokens are what behind_one holds; the nearest snapshot of this content is one shorter.
    assert sequence.truncate(30) == 1
    assert np.array_equal(sequence.append(two.tokens[30:], logits="all"), expected[30:])
    del behind_two
    with pytest.raises(InputError, match="not tokens"):
        sequence.truncate(40)
    # Nothing was changed by that.
    assert len(sequence) == len(two.tokens)
    sequence.restore(behind_one)
    assert sequence.truncate(12) == 12


def test_what_cannot_be_rows_is_refused(tiny: Any) -> None:
    rows, positions = rows_of(tiny(), 1, 6), grid_positions(2, 3).astype(np.int32)
    good: dict[str, Any] = {"positions": positions, "digest": bytes(32)}
    for changed, message in (
        ({"positions": positions[:5]}, "5 positions"),
        ({"positions": positions - 1}, "is -1, expected 0 to 5"),
        ({"positions": positions + 4}, "is 6, expected 0 to 5"),
        ({"positions": positions[:, :2]}, "three"),
        ({"digest": b"short"}, "32 bytes"),
    ):
        with pytest.raises(InputError, match=message):
            _core.InputRows(rows, **good | changed)
    for wrong in (rows[:0], rows[0], np.where(rows == rows[0, 0], np.nan, rows), np.where(rows > 1, np.inf, rows)):
        with pytest.raises(InputError):
            _core.InputRows(wrong.astype(np.float32), **good)


def test_what_cannot_follow_is_refused(tiny: Any) -> None:
    """And changes nothing."""
    model = tiny()
    core = _core.Model(model.path, threads=1)
    asked = prompt(model, 4, (3, 4, 1), 5)
    ((_, image),) = asked.inputs
    other = block(rows_of(model, 2, 12), grid_positions(3, 4), 2)
    narrow = block(np.zeros((3, 8), np.float32), grid_positions(1, 3))
    for inputs, message in (
        ([(-2, image)], "no unfinished block"),
        ([(21, image)], "within the 21 tokens"),
        ([(4, image), (10, other)], "behind 16"),
        ([(10, other), (4, image)], "behind 22"),
        ([(2, narrow)], "8 values, expected 96"),
    ):
        sequence = _core.Sequence(core)
        with pytest.raises(InputError, match=message):
            sequence.append(asked.tokens, inputs=inputs)
        assert len(sequence) == 0
    sequence = _core.Sequence(core)
    sequence.append(asked.tokens[:9], inputs=asked.inputs, logits="none")
    for inputs in ([], [(0, image)], [(-4, image)], [(-5, other)]):
        with pytest.raises(InputError, match="holds 5 of 12 input rows"):
            sequence.append(asked.tokens[9:], inputs=inputs)
    tokens, inputs = asked.part(9, 21)
    sequence.append(tokens, inputs=inputs)
    assert len(sequence) == 21
