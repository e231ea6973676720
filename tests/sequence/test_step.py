"""A step: what shares a pass changes no bit and no token, and what ends one item ends no other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from random_model import TOKENS_USED, random_tokens, relative_error

from qwen35_local import _core
from qwen35_local._core import Sampler, StepItem
from qwen35_local.errors import Cancelled, InputError

STREAMS = [random_tokens(60, seed=s) for s in range(4)]
SAMPLING: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"top_k": 5, "presence_penalty": 1.5},
    {"top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2, "penalty_last_n": 4},
    {},
    {"top_p": 0.8, "min_p": 0.1, "frequency_penalty": 0.5},
    {"top_k": 2000, "logit_bias": {3: 5.0, 9: -np.inf}},
]


def samplers(**more: Any) -> list[Sampler]:
    return [Sampler(seed=7, n_tokens_used=TOKENS_USED, **options, **more) for options in SAMPLING]


def raised(result: _core.StepResult) -> str:
    assert result.error is not None
    return str(result.error)


@pytest.mark.parametrize("variety", [{}, {"moe": True, "ratio": 3}, {"wide": True, "dtype": "Q4_K"}], ids=str)
def test_what_shares_a_step_changes_no_bit(tiny: Any, variety: dict[str, Any]) -> None:
    """Logits and hidden rows of every token, over random items, orders, cuts and row limits."""
    model = _core.Model(tiny(**variety).path, threads=2)
    random = np.random.default_rng(0)
    alone = [_core.Sequence(model).step(stream, logits="all", hidden="all") for stream in STREAMS]
    for rows in (1, 3, 33, 512):
        sequences = [_core.Sequence(model) for _ in STREAMS]
        while any(len(sequence) < 60 for sequence in sequences):
            members = [int(i) for i in random.permutation(len(STREAMS)) if len(sequences[i]) < 60]
            starts = [len(sequences[i]) for i in members]
            ends = [start + int(random.integers(0, 30)) for start in starts]
            outputs = [str(random.choice(["none", "last", "all"])) for _ in members]
            items = [
                StepItem(sequences[i], STREAMS[i][a:b], logits=out if a < b < 61 else "none", hidden="all")  # type: ignore[arg-type]
                for i, a, b, out in zip(members, starts, ends, outputs, strict=True)
            ]
            for i, start, item, result in zip(members, starts, items, model.step(items, rows=rows), strict=True):
                end = start + result.evaluated
                assert result.error is None
                assert len(sequences[i]) == end
                assert result.is_finished == (result.evaluated == len(item.tokens))
                assert np.array_equal(result.hidden, alone[i].hidden[start:end])
                if len(result.logits) > 0:
                    assert np.array_equal(result.logits, alone[i].logits[end - len(result.logits) : end])


def test_hidden_rows_are_what_the_head_reads(tiny: Any) -> None:
    written = tiny()
    result = _core.Sequence(_core.Model(written.path)).step(STREAMS[0], logits="all", hidden="all")
    head = written.weights.get("output.weight", written.weights["token_embd.weight"])
    assert result.hidden.shape == (60, written.config.hidden)
    assert relative_error(result.logits, result.hidden.astype(np.float64) @ head.T.astype(np.float64)) < 1e-5


@pytest.mark.parametrize("masked", [False, True])
def test_a_token_is_the_one_drawn_from_its_row(tiny: Any, masked: bool) -> None:
    """Drawn on the device or from the whole row, alone or beside others: the tokens that `next` draws from logits."""
    model = _core.Model(tiny().path, threads=2)
    mask = np.array([0x5555AAAA] * (TOKENS_USED // 32), np.uint32) if masked else None
    drawn: list[list[int]] = []
    for options in ({}, {"logits": "last"}, {"logprobs": 3}):
        sequences = [_core.Sequence(model) for _ in SAMPLING]
        mine = samplers()
        tokens = [list(STREAMS[0][: 5 + n]) for n in range(len(SAMPLING))]
        for sampler in mine:
            sampler.set_mask(mask)
        texts: list[list[int]] = [[] for _ in SAMPLING]
        for _ in range(12):
            items = [
                StepItem(sequence, new, sampler=sampler, **options)  # type: ignore[arg-type]
                for sequence, new, sampler in zip(sequences, tokens, mine, strict=True)
            ]
            for n, result in enumerate(model.step(items)):
                tokens[n] = [sampled.token for sampled in result.sampled]
                texts[n] += tokens[n]
        drawn.append([token for text in texts for token in text])
    by_row: list[int] = []
    for n, sampler in enumerate(samplers()):
        sampler.set_mask(mask)
        sequence = _core.Sequence(model)
        new = list(STREAMS[0][: 5 + n])
        for _ in range(12):
            new = [sampler.next(sequence.append(new)[-1]).token]
            by_row += new
    assert drawn == [by_row] * 3


def test_logprobs_are_those_of_the_row(tiny: Any) -> None:
    model = _core.Model(tiny().path)
    result = _core.Sequence(model).step(
        STREAMS[1], logits="last", sampler=Sampler(seed=0, n_tokens_used=TOKENS_USED), logprobs=4
    )
    [sampled] = result.sampled
    best = Sampler(n_tokens_used=TOKENS_USED).top_logprobs(result.logits[-1], TOKENS_USED)
    assert sampled.top_logprobs == best[:4]
    assert sampled.logprob == dict(best)[sampled.token]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n", [0, 1, 4, TOKENS_USED + 9, 2000])
def test_logprobs_of_a_row_that_stays_on_the_device(tiny: Any, n: int, masked: bool) -> None:
    """Of the distribution before edits; a card adds its exponentials in fp32."""
    model = _core.Model(tiny().path)
    mask = np.array([0x5555AAAA] * (TOKENS_USED // 32), np.uint32) if masked else None
    for mine, theirs in zip(samplers(), samplers(), strict=True):
        mine.set_mask(mask)
        theirs.set_mask(mask)
        [found] = _core.Sequence(model).step(STREAMS[1], sampler=mine, logprobs=n).sampled
        wanted = theirs.next(_core.Sequence(model).append(STREAMS[1])[-1], logprobs=n)
        assert found.logprob is not None and wanted.logprob is not None
        assert found.token == wanted.token
        assert [token for token, _ in found.top_logprobs] == [token for token, _ in wanted.top_logprobs]
        apart = 0.0 if model.device.startswith("cpu") else 2.0**-20
        ours, rows = ([one.logprob, *(p for _, p in one.top_logprobs)] for one in (found, wanted))
        assert np.allclose(ours, rows, rtol=0, atol=apart)  # type: ignore[arg-type]


def test_a_long_prompt_does_not_hold_up_a_token(tiny: Any) -> None:
    """Listed behind two prompts; the rows that are left go to the prompts in their order."""
    model = _core.Model(tiny().path)
    first, second, third, fourth = (_core.Sequence(model) for _ in range(4))
    long, longer = random_tokens(50, seed=1), random_tokens(70, seed=2)
    items = [StepItem(first, longer), StepItem(second, long), StepItem(third, [1, 2, 3]), StepItem(fourth, [4])]
    results = model.step(items, rows=32)
    assert [result.evaluated for result in results] == [28, 0, 3, 1]
    assert [result.is_finished for result in results] == [False, False, True, True]
    results = model.step([StepItem(second, long), StepItem(first, longer[28:])], rows=60)
    assert [result.evaluated for result in results] == [18, 42]
    assert [len(sequence) for sequence in (first, second, third, fourth)] == [70, 18, 3, 1]


def test_more_tokens_than_rows_wait_in_their_order(tiny: Any) -> None:
    model = _core.Model(tiny().path)
    items = [StepItem(_core.Sequence(model), [n]) for n in range(5)]
    assert [result.evaluated for result in model.step(items, rows=3)] == [1, 1, 1, 0, 0]


def test_an_item_that_cannot_be_fails_alone(tiny: Any) -> None:
    model, other = _core.Model(tiny().path), _core.Model(tiny().path)
    fine = _core.Sequence(model)
    expected = _core.Sequence(model).append(STREAMS[0])
    twice = Sampler(seed=1)
    nothing = Sampler(logit_bias=dict.fromkeys(range(300), -np.inf))
    drawn_from = _core.Sequence(model)
    items = [
        StepItem(_core.Sequence(model, context_tokens=59), STREAMS[0], logits="last"),
        StepItem(_core.Sequence(model), [1, 10**6]),
        StepItem(_core.Sequence(other), [1]),
        StepItem(fine, STREAMS[0], logits="last", sampler=twice),
        StepItem(fine, [1]),
        StepItem(_core.Sequence(model), [1], sampler=twice),
        StepItem(_core.Sequence(model), [], logits="last"),
        StepItem(drawn_from, [1, 2], sampler=nothing),
        StepItem(_core.Sequence(model), []),
    ]
    results = model.step(items)
    said = ["60 tokens do not fit", "token 1000000", "another model", "", "twice", "in use", "no tokens", "-inf", ""]
    for result, words in zip(results, said, strict=True):
        assert words in raised(result) if words else result.error is None
        assert isinstance(result.error, InputError | None)
    assert np.array_equal(results[3].logits, expected)
    assert len(results[3].sampled) == 1
    assert (results[8].evaluated, results[8].is_finished) == (0, True)
    assert (results[7].evaluated, len(drawn_from)) == (2, 2)  # only the draw failed
    assert [result.evaluated for result in results[:3]] == [0, 0, 0]
    assert np.array_equal(drawn_from.append([3]), _core.Sequence(model).append([1, 2, 3]))


@contextmanager
def kept_cancelled(sequence: _core.Sequence) -> Iterator[None]:
    """Another thread cancels whatever the sequence does, as fast as it can."""
    is_over = threading.Event()

    def cancel() -> None:
        while not is_over.wait(0.0005):
            sequence.cancel()

    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=60)


def test_cancelling_one_leaves_the_others_their_results(tiny: Any) -> None:
    model = _core.Model(tiny().path, threads=1)
    tokens = random_tokens(3000, seed=3)
    expected = _core.Sequence(model).append(tokens[:1500])
    cancelled, kept = _core.Sequence(model), _core.Sequence(model)
    sampler = Sampler(temperature=0.0, n_tokens_used=TOKENS_USED)
    with kept_cancelled(cancelled):
        results = model.step(
            [StepItem(cancelled, tokens), StepItem(kept, tokens[:1500], logits="last", sampler=sampler)], rows=4500
        )
    assert isinstance(results[0].error, Cancelled)
    assert results[0].evaluated == len(cancelled) in (0, 3000)
    assert results[1].error is None
    assert np.array_equal(results[1].logits, expected)
    assert [sampled.token for sampled in results[1].sampled] == [expected[-1, :TOKENS_USED].argmax()]
    more = StepItem(cancelled, tokens[len(cancelled) :][:5] or [1])  # it can go on
    assert model.step([more])[0].error is None


def test_of_a_sequence_alone_the_error_is_raised(tiny: Any) -> None:
    model = _core.Model(tiny().path)
    sequence = _core.Sequence(model, context_tokens=10)
    with pytest.raises(InputError, match="60 tokens do not fit"):
        sequence.step(STREAMS[0])
    assert sequence.step(STREAMS[0][:10], rows=4).evaluated == 4


@pytest.mark.parametrize("rows", [0, -1, 8193, 2**70])
def test_rows_that_cannot_be(tiny: Any, rows: int) -> None:
    model = _core.Model(tiny().path)
    with pytest.raises(InputError, match="rows"):
        model.step([], rows=rows)
    with pytest.raises(InputError, match="logprobs"):
        StepItem(_core.Sequence(model), [1], logprobs=1)
    with pytest.raises(InputError, match="hidden"):
        StepItem(_core.Sequence(model), [1], hidden="some")  # type: ignore[arg-type]
    assert model.step([]) == []
