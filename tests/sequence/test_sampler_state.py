"""What a sampler keeps between tokens: counts and their window, the random stream, a grammar's mask."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sampler_cases import STEPS, row, settings

from qwen35_local._core import Sampler
from qwen35_local.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden/sampler.json"
PENALTIES: list[dict[str, Any]] = [
    {"presence_penalty": 1.5},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "penalty_last_n": 3},
    {"frequency_penalty": 2.0, "penalty_last_n": 0},
    {"frequency_penalty": 1.0, "penalty_last_n": 1, "logit_bias": {5: 2.0}},
    {},
]


def draw(sampler: Sampler, case: int, steps: range) -> list[int]:
    return [sampler.next(row(case, step, 41)).token for step in steps]


def mask(allowed: list[int], words: int) -> np.ndarray:
    bits = np.zeros(words * 32, np.uint8)
    bits[allowed] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


def test_the_tokens_are_those_of_the_sampler_that_took_the_history() -> None:
    golden = json.loads(GOLDEN.read_text())["tokens"]
    for n, (size, options) in enumerate(settings()):
        sampler = Sampler(**options)
        tokens = [sampler.next(row(n, step, size)).token for step in range(STEPS)]
        assert tokens == golden[n], (size, options)


@pytest.mark.parametrize("options", PENALTIES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 4, 11, 12])
def test_a_rewound_sampler_draws_again_what_it_drew(options: dict[str, Any], n: int) -> None:
    sampler = Sampler(seed=7, **options)
    tokens = draw(sampler, 1, range(12))
    sampler.rewind(n)
    assert len(sampler) == n
    assert draw(sampler, 1, range(n, 12)) == tokens[n:]
    sampler.rewind(n)
    other = draw(sampler, 2, range(12))
    sampler.rewind(n)
    assert draw(sampler, 1, range(n, 12)) == tokens[n:]
    assert len(other) == 12


@pytest.mark.parametrize("options", PENALTIES, ids=str)
def test_a_clone_goes_on_by_itself(options: dict[str, Any]) -> None:
    sampler = Sampler(seed=3, **options)
    draw(sampler, 1, range(5))
    clone = sampler.clone()
    tokens = draw(sampler, 1, range(5, 12))
    assert draw(clone, 1, range(5, 12)) == tokens
    clone.rewind(0)
    assert len(sampler) == 12
    assert draw(clone, 1, range(5)) == draw(Sampler(seed=3, **options), 1, range(5))


def test_a_history_is_accepted_at_once_or_token_by_token() -> None:
    history = [3, 5, 3, 3, 9, 5, 1]
    together = Sampler(seed=0, frequency_penalty=1.0, penalty_last_n=4)
    together.accept(history)
    apart = Sampler(seed=0, frequency_penalty=1.0, penalty_last_n=4)
    for token in history:
        apart.accept(token)
    assert draw(together, 4, range(20)) == draw(apart, 4, range(20))


def test_a_draw_without_accept_is_taken_back_too() -> None:
    sampler = Sampler(seed=5)
    first = draw(sampler, 1, range(3))
    for _ in range(4):
        sampler.sample(row(1, 3, 41))
    sampler.rewind(3)
    assert draw(sampler, 1, range(3, 6)) == draw(Sampler(seed=5), 1, range(6))[3:]
    assert first == draw(Sampler(seed=5), 1, range(3))


def test_it_cannot_rewind_beyond_what_it_accepted() -> None:
    sampler = Sampler(seed=0)
    sampler.accept([1, 2])
    with pytest.raises(InputError, match="rewind to 3 tokens, expected at most the 2"):
        sampler.rewind(3)
    assert len(sampler) == 2


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"temperature": 0.0}, {"top_p": 0.5}, {"presence_penalty": 2.0}])
def test_only_what_the_mask_allows_is_drawn(options: dict[str, Any]) -> None:
    """As if the others had the logit -inf."""
    rng = np.random.default_rng(2)
    for size in (41, 700):
        masked, alone = Sampler(seed=1, **options), Sampler(seed=1, **options)
        for step in range(20):
            allowed = sorted(rng.choice(size, rng.integers(1, 9), replace=False).tolist())
            masked.set_mask(mask(allowed, -(-size // 32)))
            logits = row(5, step, size)
            holes = np.full(size, -np.inf, np.float32)
            holes[allowed] = logits[allowed]
            token = masked.next(logits).token
            assert token in allowed
            assert token == alone.next(holes).token
        masked.set_mask(None)
        assert masked.next(row(5, 21, size)).token == alone.next(row(5, 21, size)).token


def test_a_mask_ends_where_its_words_end() -> None:
    sampler = Sampler(temperature=0.0)
    logits = np.arange(100, dtype=np.float32)
    sampler.set_mask(np.full(2, 0xFFFFFFFF, np.uint32))
    assert sampler.sample(logits) == 63
    sampler.set_mask(np.array([0], np.uint32))
    with pytest.raises(InputError, match="mask"):
        sampler.sample(logits)
    for bad in (np.zeros(0, np.uint32), np.zeros((2, 2), np.uint32), np.zeros(2, np.int64), [1, 2]):
        with pytest.raises(InputError, match="mask"):
            sampler.set_mask(bad)  # type: ignore[arg-type]


def test_next_says_whether_a_token_stops() -> None:
    sampler = Sampler(temperature=0.0, stop_ids=[2, 40], seed=0)
    logits = np.zeros(41, np.float32)
    logits[40] = 1.0
    assert sampler.next(logits).is_stop
    logits[3] = 2.0
    assert not sampler.next(logits).is_stop
    assert len(sampler) == 2


def test_next_gives_the_logprobs_that_are_asked_for() -> None:
    """Of the distribution before penalties and cuts; the sampled token's also where it is not among the best."""
    logits = row(3, 1, 41)
    x = logits.astype(np.float64)
    wanted = x - np.log(np.exp(x).sum())
    for seed in range(10):
        sampled = Sampler(seed=seed, temperature=2.0, presence_penalty=1.0).next(logits, logprobs=4)
        assert sampled.logprob is not None
        assert np.isclose(sampled.logprob, wanted[sampled.token], atol=1e-12)
        assert sampled.top_logprobs == Sampler().top_logprobs(logits, 4)
    assert Sampler().next(logits, logprobs=0).top_logprobs == []
    plain = Sampler().next(logits)
    assert plain.logprob is None and plain.top_logprobs == []


def test_one_call_at_a_time() -> None:
    sampler = Sampler(seed=0)
    logits = np.zeros(3_000_000, np.float32)
    refused: list[str] = []
    is_over = threading.Event()

    def intrude(use: Callable[[], object]) -> None:
        while not is_over.is_set():
            try:
                use()
            except InputError as error:
                refused.append(str(error))
                return

    thread = threading.Thread(target=intrude, args=(sampler.clone,), daemon=True)
    thread.start()
    for _ in range(200):
        try:
            sampler.sample(logits)
        except InputError as error:
            refused.append(str(error))
        if refused:
            break
    is_over.set()
    thread.join(timeout=60)
    assert refused and all("in use by another call" in text for text in refused)
