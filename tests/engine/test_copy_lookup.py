"""Drafts copied from earlier text: the right place is found, followed and left, at a cost that does not grow."""

import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from qwen35_local.engine.copy_lookup import FEWEST_IN_BULK, KEY_TOKENS, LONGEST_COMPARED, Copied, CopyLookup

LONG, SHORT = KEY_TOKENS
NONE = Copied([], 0)


def unlike(n: int, first: int = 1000) -> list[int]:
    return [*range(first, first + n)]


def test_what_followed_before_is_the_draft() -> None:
    prompt = unlike(300)
    lookup = CopyLookup([*prompt, 7, 8, *prompt[40:50]])
    assert lookup.draft(8) == Copied(prompt[50:58], 10)
    assert lookup.draft(3) == Copied(prompt[50:53], 10)
    assert lookup.draft(0).tokens == []
    assert len(lookup) == 312


def test_nothing_repeats() -> None:
    for tokens in ([], [1], [1, 2], [1, 2, 1], unlike(500)):
        assert CopyLookup(tokens).draft(8) == NONE


def test_a_place_is_followed_until_the_text_parts_from_it() -> None:
    prompt = unlike(100)
    lookup = CopyLookup([*prompt, *prompt[:SHORT]])
    assert lookup.draft(4) == Copied(prompt[SHORT : SHORT + 4], SHORT)
    lookup.extend(prompt[SHORT : SHORT + 3])
    assert lookup.draft(4) == Copied(prompt[SHORT + 3 : SHORT + 7], SHORT + 3)
    lookup.extend([prompt[SHORT + 3], 9])
    assert lookup.draft(4) == NONE
    lookup.extend(prompt[60:62])
    assert lookup.draft(4) == Copied(prompt[62:66], SHORT)


def test_a_match_is_counted_on_from_where_it_was_compared() -> None:
    prompt = unlike(200)
    lookup = CopyLookup([*prompt, *prompt[:100]])
    assert lookup.draft(1).matched == LONGEST_COMPARED
    lookup.extend(prompt[100:150])
    assert lookup.draft(1) == Copied([prompt[150]], LONGEST_COMPARED + 50)


def test_the_last_place_counts_unless_another_matches_longer() -> None:
    end = unlike(LONG)
    assert CopyLookup([*end, 1, 0, *end, 2, 3, *end]).draft(1) == Copied([2], LONG)
    assert CopyLookup([*end, 1, 0, *end[-SHORT:], 2, 0, *end]).draft(1) == Copied([1], LONG)
    assert CopyLookup([*end, 1, 0, *end[-SHORT:], 2, 0, 3, *end[-SHORT:]]).draft(1) == Copied([2], SHORT)


def test_fewer_than_the_least_that_must_match_are_no_draft() -> None:
    lookup = CopyLookup([5, 6, 7, 0, 5, 6, 7])
    assert lookup.draft(1, least=4) == NONE
    assert lookup.draft(1, least=3) == Copied([0], 3)


@pytest.mark.parametrize("period", [1, 2, 3, 7])
@pytest.mark.parametrize("taken", [1, 2, 20])
def test_a_period_is_continued(period: int, taken: int) -> None:
    text = unlike(period) * 200
    lookup = CopyLookup(text[: 3 * period])
    for end in range(3 * period, 100, taken):
        assert lookup.draft(8).tokens == text[end : end + 8]
        lookup.extend(text[end : end + taken])
    assert lookup.draft(1).matched > 60


def true_match(tokens: list[int], copied: Copied) -> bool:
    """Whether the draft stands, behind so many matching tokens, somewhere in the text that it itself goes on."""
    going_on = [*tokens, *copied.tokens]
    seen = going_on[len(tokens) - copied.matched :]
    return any(going_on[at : at + len(seen)] == seen for at in range(len(tokens) - copied.matched))


def test_a_period_is_left_within_what_comes_at_once() -> None:
    lookup = CopyLookup([1, 2] * 8)
    assert lookup.draft(2).tokens == [1, 2]
    lookup.extend([1, 2, 1, 9])
    assert lookup.draft(2) == NONE


def test_what_came_before_the_tables_grew_is_still_found() -> None:
    prompt = unlike(1500)
    found = 0
    for at in range(100, 1400, 13):
        lookup = CopyLookup(prompt)
        lookup.draft(1)
        lookup.extend(unlike(2500, first=50_000))
        lookup.draft(1)
        lookup.extend(prompt[at : at + LONG])
        found += lookup.draft(1) == Copied([prompt[at + LONG]], LONG)
    assert found > 70


def test_drafts_of_random_text_are_true_and_found() -> None:
    random = np.random.default_rng(3)
    tokens: list[int] = []
    lookup = CopyLookup()
    due = found = 0
    for _ in range(1500):
        token = int(random.integers(0, 40))
        lookup.extend([token])
        tokens.append(token)
        copied = lookup.draft(5)
        assert true_match(tokens, copied)
        pairs = list(pairwise(tokens))
        due += pairs[-1:] != [] and pairs[-1] in pairs[:-1]
        found += copied.matched >= SHORT
    assert due > 500
    assert 0.85 * due <= found <= due  # a slot may have been taken by another key


def test_it_is_the_same_however_the_text_comes() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        text = random.integers(0, 12, 9000).tolist()
        whole = CopyLookup(text)
        parts = CopyLookup(text[:10])
        at = 10
        while at < len(text):
            many = int(random.choice([1, 2, FEWEST_IN_BULK - 1, FEWEST_IN_BULK, 700]))
            parts.extend(text[at : at + many])
            parts._search()  # enters what has come, and finds a place that is let go again
            parts._source = 0
            at += many
        assert parts.draft(8) == whole.draft(8) != NONE


@pytest.mark.parametrize(
    "prompt", [[7] * 100_000, [*range(250)] * 400, [*range(100_000)]], ids=["one", "period", "all"]
)
def test_the_cost_of_a_token_does_not_grow(prompt: list[int]) -> None:
    began = time.thread_time()
    lookup = CopyLookup(prompt)
    lookup.draft(8)
    assert time.thread_time() - began < 0.3  # ten milliseconds, and a busy machine
    random = np.random.default_rng(0)
    reply = [prompt[-1 - n % 40] if n % 45 else int(random.integers(1000)) for n in range(2000)]
    began = time.thread_time()
    for token in reply:
        lookup.extend([token])
        lookup.draft(8)
    assert time.thread_time() - began < 2000 * 100e-6  # of which 10 are taken


def test_memory_for_a_token_is_bounded() -> None:
    tokens = np.arange(300_000, dtype=np.int32)
    tracemalloc.start()
    try:
        lookup = CopyLookup(tokens)  # type: ignore[arg-type]
        lookup.draft(8)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 4 * len(lookup) < taken <= 36 * len(lookup) + 10_000
