"""The sampler against its pipeline written in numpy, its distribution against the one it should draw from, and its
manners."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qwen35_local._core import Sampler
from qwen35_local.errors import InputError


class Stream:
    """SplitMix64, as 53-bit fractions."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def unit(self) -> float:
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53


def adjusted(logits: NDArray[np.float32], history: list[int], options: dict[str, Any]) -> NDArray[np.float64]:
    """After bias and penalties; ids that do not exist are gone."""
    x = logits[: options.get("n_tokens_used", len(logits))].astype(np.float64)
    for token, bias in options.get("logit_bias", {}).items():
        x[token] += bias
    last_n = options.get("penalty_last_n", -1)
    seen = history if last_n < 0 else history[len(history) - min(last_n, len(history)) :]
    for token in set(seen):
        if token < len(x):
            penalty = options.get("repetition_penalty", 1.0)
            x[token] = x[token] / penalty if x[token] > 0 else x[token] * penalty
            x[token] -= options.get("presence_penalty", 0.0) + options.get("frequency_penalty", 0.0) * seen.count(token)
    return x


def survivors(x: NDArray[np.float64], options: dict[str, Any]) -> list[int]:
    """After top-k, top-p and min-p, in order of id."""
    order = sorted(range(len(x)), key=lambda i: (-x[i], i))
    if options.get("top_k", 0):
        order = order[: options["top_k"]]
    if options.get("top_p", 1.0) < 1.0:
        weights = np.exp(x[order] - x[order].max())
        reached = np.cumsum(weights)
        total = np.exp(x[sorted(order)] - x[order].max()).sum()
        order = order[: int(np.searchsorted(reached, options["top_p"] * total)) + 1]
    if options.get("min_p", 0.0) > 0.0:
        least = x[order].max() + math.log(options["min_p"])
        order = [i for i in order if x[i] >= least]
    return sorted(order)


def probabilities(x: NDArray[np.float64], ids: list[int], temperature: float) -> NDArray[np.float64]:
    weights = np.exp((x[ids] - x[ids].max()) / temperature)
    return weights / weights.sum()


def expected(logits: NDArray[np.float32], history: list[int], options: dict[str, Any], stream: Stream) -> int:
    x = adjusted(logits, history, options)
    if options.get("temperature", 1.0) == 0.0:
        return int(x.argmax())
    ids = survivors(x, options)
    shares = np.cumsum(probabilities(x, ids, options.get("temperature", 1.0)))
    return ids[min(int(np.searchsorted(shares, stream.unit(), side="right")), len(ids) - 1)]


OPTIONS = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**64 - 1)},
    optional={
        "temperature": st.sampled_from([0.0, 0.05, 0.7, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 1, 2, 20, 39, 40, 1000]),
        "top_p": st.sampled_from([0.0, 0.1, 0.8, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        "repetition_penalty": st.sampled_from([0.8, 1.0, 1.3]),
        "presence_penalty": st.sampled_from([-1.0, 0.0, 1.5]),
        "frequency_penalty": st.sampled_from([-0.5, 0.0, 0.5]),
        "penalty_last_n": st.sampled_from([-1, 0, 1, 5, 100]),
        "logit_bias": st.dictionaries(st.integers(0, 29), st.sampled_from([-math.inf, -3.0, 0.5, 8.0]), max_size=4),
        "n_tokens_used": st.sampled_from([30, 40, 60]),
    },
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(options=OPTIONS, kind=st.sampled_from(["spread", "ties", "flat", "holes"]), data=st.integers(0, 10**6))
def test_the_pipeline_is_the_numpy_one(options: dict[str, Any], kind: str, data: int) -> None:
    random = np.random.default_rng(data)
    sampler, stream = Sampler(**options), Stream(options["seed"])
    assert sampler.seed == options["seed"]
    history: list[int] = []
    for _ in range(6):
        logits = (3.0 * random.standard_normal(40)).astype(np.float32)
        if kind == "ties":
            logits = np.round(logits)
        elif kind == "flat":
            logits[:] = 1.5
        elif kind == "holes":
            logits[random.permutation(40)[:25]] = -np.inf
        token = sampler.sample(logits)
        assert token == expected(logits, history, options, stream)
        sampler.accept(token)
        history.append(token)


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.5}, {"top_k": 7, "temperature": 1.7}, {"top_p": 0.7}, {"min_p": 0.2}, {"n_tokens_used": 20}],
    ids=str,
)
def test_draws_follow_the_distribution(options: dict[str, Any]) -> None:
    logits = (2.0 * np.random.default_rng(3).standard_normal(50)).astype(np.float32)
    x = adjusted(logits, [], options)
    ids = survivors(x, options)
    shares = probabilities(x, ids, options.get("temperature", 1.0))
    draws = 20_000
    sampler = Sampler(seed=11, **options)
    counts = np.bincount([sampler.sample(logits) for _ in range(draws)], minlength=50)
    assert counts.sum() == counts[ids].sum() == draws
    wanted = shares * draws
    often = wanted >= 5  # where chi-square is a fair approximation; the rest is one class
    classes = np.append(wanted[often], wanted[~often].sum())
    found = np.append(counts[ids][often], counts[ids][~often].sum())
    chi_square = ((found - classes)[classes > 0] ** 2 / classes[classes > 0]).sum()
    degrees = max(int((classes > 0).sum()) - 1, 1)
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)  # four standard deviations


def test_a_seed_fixes_the_stream_everywhere() -> None:
    logits = np.zeros(1000, np.float32)
    sampler = Sampler(seed=42)
    stream = Stream(42)
    assert [sampler.sample(logits) for _ in range(5)] == [int(1000 * stream.unit()) for _ in range(5)]
    assert Sampler().seed != Sampler().seed


def test_greedy_takes_the_lowest_of_equals() -> None:
    logits = np.array([1, 5, 5, 2], np.float32)
    sampler = Sampler(temperature=0.0, seed=0)
    assert sampler.sample(logits) == 1
    sampler.accept([1, 1])
    assert sampler.sample(logits) == 1
    penalised = Sampler(temperature=0.0, presence_penalty=0.1)
    penalised.accept(1)
    assert penalised.sample(logits) == 2
    assert Sampler(temperature=0.0, logit_bias={3: 4.0}).sample(logits) == 3
    assert Sampler(temperature=0.0, n_tokens_used=1).sample(logits) == 0


def test_padding_is_never_sampled() -> None:
    logits = np.zeros(300, np.float32)
    logits[290:] = 50.0
    sampler = Sampler(seed=1, n_tokens_used=290)
    assert max(sampler.sample(logits) for _ in range(300)) < 290
    assert sampler.top_logprobs(logits, 300)[-1][0] == 289
    assert len(sampler.top_logprobs(logits, 300)) == 290


def test_top_logprobs_are_of_the_unmodified_distribution() -> None:
    logits = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    logits[5] = logits[50]
    x = logits.astype(np.float64)
    wanted = x - np.log(np.exp(x).sum())
    sampler = Sampler(temperature=0.1, top_k=1, logit_bias={7: 50.0}, seed=0)
    top = sampler.top_logprobs(logits, 100)
    assert [t for t, _ in top] == sorted(range(100), key=lambda i: (-x[i], i))
    assert np.allclose([p for _, p in top], wanted[[t for t, _ in top]], atol=1e-12)
    assert sampler.top_logprobs(logits, 0) == []
    assert sampler.top_logprobs(logits, 3) == top[:3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", v) for v in (-0.1, math.nan, math.inf)),
        *(("top_k", v) for v in (-1, 2**70)),
        *(("top_p", v) for v in (-0.1, 1.1, math.nan)),
        *(("min_p", v) for v in (-0.1, 1.1, math.nan)),
        *(("repetition_penalty", v) for v in (0.0, -1.0, math.nan, math.inf)),
        *(("presence_penalty", v) for v in (math.nan, math.inf)),
        *(("frequency_penalty", v) for v in (math.nan, -math.inf)),
        *(("penalty_last_n", v) for v in (-2, 2**70)),
        *(("seed", v) for v in (-1, 2**64)),
        *(("n_tokens_used", v) for v in (0, -5)),
        *(("logit_bias", v) for v in ({-1: 1.0}, {2**31: 1.0}, {0: math.nan}, {0: math.inf})),
    ],
    ids=str,
)
def test_options_that_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(InputError, match="token" if isinstance(value, dict) and 0 not in value else name):
        Sampler(**{name: value})


@pytest.mark.parametrize("value", ["1", None, [1]])
@pytest.mark.parametrize("name", ["temperature", "top_k", "penalty_last_n"])
def test_options_of_another_type(name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        Sampler(**{name: value})


def test_logits_and_history_that_cannot_be() -> None:
    sampler = Sampler(seed=0)
    good = np.zeros(4, np.float32)
    for bad in (math.nan, math.inf):
        logits = good.copy()
        logits[2] = bad
        with pytest.raises(InputError, match="token 2"):
            sampler.sample(logits)
        with pytest.raises(InputError, match="token 2"):
            sampler.top_logprobs(logits, 1)
        assert Sampler(n_tokens_used=2).sample(logits) < 2
    with pytest.raises(InputError, match="-inf"):
        sampler.sample(np.full(4, -np.inf, np.float32))
    with pytest.raises(InputError, match="-inf"):
        Sampler(logit_bias=dict.fromkeys(range(4), -math.inf)).sample(good)
    with pytest.raises(InputError, match="no logits"):
        sampler.sample(np.zeros(0, np.float32))
    with pytest.raises(InputError, match="dimensions"):
        sampler.sample(np.zeros((1, 4), np.float32))
    for token in (-1, 2**31, 2**70):
        with pytest.raises(InputError, match=str(token)):
            sampler.accept([0, token])
    assert len(sampler) == 0
    beyond = Sampler(presence_penalty=1.0)
    beyond.accept([0, 4])
    with pytest.raises(InputError, match="token 4, expected 0 to 3"):
        beyond.sample(good)
    with pytest.raises(InputError, match="token 4"):
        Sampler(logit_bias={4: 1.0}).sample(good)
    with pytest.raises(InputError, match="token 3"):
        Sampler(logit_bias={3: 1.0}, n_tokens_used=3)
    with pytest.raises(InputError, match="n is -1"):
        sampler.top_logprobs(good, -1)
    with pytest.raises(TypeError):
        sampler.sample(np.zeros(4, np.float64))  # type: ignore[arg-type]
    sampler.accept(np.array([0, 1], np.int32))
    assert sampler.sample(good) in range(4)
    assert len(sampler) == 2


def test_top_k_of_a_large_vocabulary() -> None:
    """Only a few logits are looked at closely; the outcome is that of looking at all."""
    rng = np.random.default_rng(4)
    for seed in range(40):
        logits = (4 * rng.standard_normal(20_000)).round(1).astype(np.float32)  # rounded: many are equal
        history = rng.integers(0, 20_000, 30)
        history[:5] = np.argsort(logits)[-5:]  # the likely ones are penalised
        bias = {int(np.argmin(logits)): 40.0, int(np.argmax(logits)): -3.0}
        adjusted = logits.astype(np.float64)
        for token, value in bias.items():
            adjusted[token] += value
        adjusted[np.unique(history)] -= 1.5
        order = np.lexsort((np.arange(20_000), -adjusted))
        alone = np.full(20_000, -np.inf, np.float32)
        alone[order[:20]] = adjusted[order[:20]]
        options = {"temperature": 1.0, "seed": seed}
        few = Sampler(top_k=20, presence_penalty=1.5, logit_bias=bias, **options)
        few.accept(history)
        assert few.sample(logits) == Sampler(**options).sample(alone)
        best = Sampler(temperature=0.0, presence_penalty=1.5, logit_bias=bias)
        best.accept(history)
        assert best.sample(logits) == order[0]
