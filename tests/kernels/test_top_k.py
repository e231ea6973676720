"""top_k: the best tokens of a row under bias, penalties and a mask, ties to the lower id; llama.cpp's and OpenAI's
penalties, all in fp64."""

from typing import Any

import numpy as np
import pytest
from kernel_cases import device_of, rows

from qwen35_local.errors import InputError

MOST = 1024


# Between devices: of log(sum(exp)), whose terms a card takes in fp32, 64 to a sum (six additions deep). Exponentials
# are right to 2^-23, and so is what the sum of a block is scaled by.
LOG_SUM = 2.0**-20

Best = list[tuple[int, float, float]]


def best(logits: np.ndarray, k: int, edits: dict[int, tuple[int, float]], **options: Any) -> Best:
    """Ids, edited logits and those of the row. `edits`: id to count and bias."""
    x = logits.astype(np.float64)
    repetition = options.get("repetition", 1.0)
    for token, (count, bias) in edits.items():
        x[token] += bias
        if count:
            x[token] = x[token] / repetition if x[token] > 0 else x[token] * repetition
            x[token] -= options.get("presence", 0.0) + options.get("frequency", 0.0) * count
    allowed = options.get("allowed")
    if allowed is not None:
        bits = np.unpackbits(allowed.view(np.uint8), bitorder="little")[: len(x)]
        x[: len(bits)][bits == 0] = -np.inf
        x[len(bits) :] = -np.inf
    order = np.lexsort((np.arange(len(x)), -x))[:k]
    return [(int(token), float(x[token]), float(logits[token])) for token in order if x[token] > -np.inf]


def found(device: Any, logits: np.ndarray, k: int, edits: dict[int, tuple[int, float]], **options: Any) -> Any:
    tokens, log_sum = device.top_k(logits, k, [(token, *edit) for token, edit in edits.items()], **options)
    assert log_sum is None
    return tokens


def log_sum_exp(logits: np.ndarray) -> float:
    x = logits.astype(np.float64)
    return float(x.max() + np.log(np.exp(x - x.max()).sum())) if x.max() > -np.inf else -np.inf


def mask_of(size: int, allowed: Any) -> np.ndarray:
    bits = np.zeros(-(-size // 32) * 32, np.uint8)
    bits[list(allowed)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 1000, 20_000])
@pytest.mark.parametrize("kind", ["spread", "ties", "flat", "holes"])
def test_formula(device, size, kind):
    rng = np.random.default_rng(size)
    for _ in range(20):
        logits = rows(rng, 1, size, 3.0)
        if kind == "ties":
            logits[...] = np.round(logits)
        elif kind == "flat":
            logits[...] = 0.5
        elif kind == "holes":
            logits[0, rng.permutation(size)[: 3 * size // 4]] = -np.inf
        k = int(min(rng.choice([1, 2, 20, 40, MOST]), size))
        ids = rng.choice(size, min(size, int(rng.choice([0, 1, 30]))), replace=False)
        likely = np.argsort(-logits[0])[:3]  # where an edit changes the outcome
        edits = {int(n): (int(rng.integers(0, 4)), float(rng.choice([0, -3, 2.5, -np.inf]))) for n in [*ids, *likely]}
        options: dict[str, Any] = {"repetition": 1.3, "presence": 0.7, "frequency": 0.2}
        assert found(device, logits, k, edits, **options) == best(logits[0], k, edits, **options)
        words = rng.integers(0, 2**32, -(-size // 32), dtype=np.uint32)
        words[:: int(rng.integers(1, 4))] = rng.choice([0, 2**32 - 1])
        options["allowed"] = words[: int(rng.integers(1, len(words) + 1))]
        assert found(device, logits, k, edits, **options) == best(logits[0], k, edits, **options)


def test_threads_and_devices_do_not_matter(name):
    logits = np.round(rows(np.random.default_rng(5), 1, 50_000, 4.0), 1)
    edits = dict.fromkeys(range(0, 50000, 17), (1, 0.0))
    wanted = found(device_of("cpu-reference", 1), logits, 40, edits, presence=1.5)
    for threads in (1, 3):
        assert found(device_of(name, threads), logits, 40, edits, presence=1.5) == wanted


@pytest.mark.parametrize("size", [70, 5000, 20_000])
def test_masks_of_few_tokens(device, size):
    """One, one in each of a few blocks, neighbours in one block; edited or not; with a mask shorter than the row."""
    rng = np.random.default_rng(size)
    logits = np.round(rows(rng, 1, size, 3.0))
    options: dict[str, Any] = {"repetition": 1.2, "presence": 0.5}
    worst = int(np.argmin(logits[0]))
    for allowed in ([worst], [0], [size - 1], range(0, size, 640), range(20, 60), rng.choice(size, size // 2)):
        ids = [int(token) for token in allowed]
        words = mask_of(size, ids)
        for edits in ({}, {ids[0]: (2, 0.0)}, {ids[-1]: (0, -np.inf)}, {int(np.argmax(logits[0])): (1, 3.0)}):
            for k in (1, 20):
                wanted = best(logits[0], k, edits, allowed=words, **options)
                assert found(device, logits, k, edits, allowed=words, **options) == wanted
                short = words[: len(words) // 2 + 1]
                wanted = best(logits[0], k, edits, allowed=short, **options)
                assert found(device, logits, k, edits, allowed=short, **options) == wanted


@pytest.mark.parametrize("size", [1, 64, 100, 1000, 20_000])
@pytest.mark.parametrize("kind", ["spread", "flat", "holes", "far"])
def test_log_sum_exp(name, device, size, kind):
    """Of the row as it stands, whatever is edited, masked or asked for beside it: the same bits."""
    rng = np.random.default_rng(size)
    logits = rows(rng, 1, size, 3.0)
    if kind == "flat":
        logits[...] = -7.25
    elif kind == "holes":
        logits[0, rng.permutation(size)[: 3 * size // 4]] = -np.inf
    elif kind == "far":
        logits[0] = logits[0] * 100
    wanted = log_sum_exp(logits[0])
    edits = [(int(np.argmax(logits)), 1, -2.0)]
    asked: list[tuple[int, Any, Any]] = [(1, [], []), (min(size, MOST), [], []), (1, edits, [])]
    asked.append((1, edits, mask_of(size, [size - 1])))
    sums = set()
    for k, changes, allowed in asked:
        options: dict[str, Any] = {"presence": 1.0, "allowed": allowed} if len(allowed) else {"presence": 1.0}
        tokens, log_sum = device.top_k(logits, k, changes, log_sum=True, **options)
        assert tokens == best(logits[0], k, {t: (n, b) for t, n, b in changes}, **options)
        sums.add(log_sum)
    assert len(sums) == 1
    tolerance = 1e-12 * max(1, abs(wanted)) if name.startswith("cpu") else LOG_SUM
    assert abs(sums.pop() - wanted) <= tolerance


def test_log_sum_of_nothing(device):
    logits = np.full((1, 300), -np.inf, np.float32)
    assert device.top_k(logits, 5, [], log_sum=True) == ([], -np.inf)


def test_nothing_is_left(device):
    logits = np.full((1, 70), -np.inf, np.float32)
    assert found(device, logits, 5, {}) == []
    assert found(device, np.zeros((1, 70), np.float32), 5, {}, allowed=np.zeros(3, np.uint32)) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_no_number_is_named(device, bad):
    logits = np.zeros((1, 200), np.float32)
    logits[0, 130] = bad
    with pytest.raises(InputError, match="token 130"):
        found(device, logits, 5, {})


@pytest.mark.parametrize("k", [0, 9, 2000])
def test_a_number_that_cannot_be_is_refused(device, k):
    with pytest.raises(InputError, match="top_k"):
        found(device, np.zeros((1, 8 if k < 2000 else 5000), np.float32), k, {})


@pytest.mark.parametrize("token", [-1, 8])
def test_an_edit_outside_the_row_is_refused(device, token):
    with pytest.raises(InputError, match=f"token {token}"):
        found(device, np.zeros((1, 8), np.float32), 2, {token: (1, 0.0)})
