"""Right answers of two models to the same prompts, and when chance explains which of them has more."""

# ruff: noqa: E402

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("jinja2", reason="the demo model's text needs jinja2")
tokenizers = pytest.importorskip("tokenizers", reason="the demo model's text needs tokenizers")

from models.demo.training.data import held_out_prompts
from models.demo.training.evaluate import TOKENIZER, Score, right_replies, row, verdict
from models.demo.training.pairs import Pairs, pairs, significant


def test_a_pair_counts_where_one_alone_is_right() -> None:
    assert pairs([True, True, False, False, True], [True, False, True, False, False]) == Pairs(2, 1)
    assert pairs([2, 1, 0, 2], [1, 1, 1, 0]) == Pairs(2, 1)
    with pytest.raises(ValueError, match="zip"):
        pairs([True], [])


@pytest.mark.parametrize("first", range(6))
def test_the_sign_test_counts_every_way_that_coins_fall(first: int) -> None:
    n, observed = 5, Pairs(first, 5 - first)
    heads = [sum(way) for way in itertools.product((0, 1), repeat=n)]
    as_far = [abs(2 * each - n) >= abs(2 * first - n) for each in heads]
    assert observed.p == pytest.approx(sum(as_far) / len(as_far))


def test_nothing_differs_between_equals() -> None:
    assert Pairs(0, 0).p == Pairs(7, 7).p == 1


def test_holm_stops_at_the_first_that_may_be_chance() -> None:
    assert significant([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # 0.03 is above 0.05 / 2
    assert significant([0.013, 0.01, 0.01, 0.01]) == [True] * 4
    assert significant([0.02, 0.02, 0.02]) == [False] * 3
    assert significant([]) == []


class Answers:
    """A model that says what is expected of it, but for every `wrong`-th prompt."""

    def __init__(self, skill: str, count: int, wrong: int) -> None:
        self.tokenizer = tokenizers.Tokenizer.from_file(str(TOKENIZER))
        said = [exchange.expect for exchange in held_out_prompts(skill, count)]
        self.replies = ["pardon?" if i % wrong == 0 else answer for i, answer in enumerate(said)]

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        assert len(prompts) == len(self.replies)
        return [self.tokenizer.encode(reply).ids for reply in self.replies]


def test_replies_are_judged_one_by_one() -> None:
    model, failures = Answers("spelling", 9, wrong=4), list[str]()
    right = right_replies(model, model.tokenizer, "spelling", 9, thinking=False, failures=failures)
    assert right == [False, True, True, True, False, True, True, True, False]
    assert len(failures) == 3
    assert right_replies(model, model.tokenizer, "spelling", 9, thinking=True) == [False] * 9  # no thought was closed


def test_the_verdict_names_the_rows_that_differ() -> None:
    worse = Score("sorting", True, [True] * 12 + [False] * 4, [False] * 12 + [False] * 4)
    level = Score("sorting", False, [True, False] * 8, [False, True] * 8)
    said = verdict([worse, level])
    assert "of 2, at 5% by Holm: sorting (thinking), 12 / 0, p = 0.00049" in said
    assert "first better 8, other better 2, p = 0.11" in said  # of 8 prompts the first has one more, of 4 as many
    assert row("sorting", [worse, level]) == "| sorting | 16 | 75.0% | 0.0% | 12 / 0 | 50.0% | 50.0% | 8 / 8 |"
    assert "by Holm: none" in verdict([level])
