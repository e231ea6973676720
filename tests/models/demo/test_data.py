"""The generator of training conversations: the split, the seed, and what each skill promises."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest

pytest.importorskip("jinja2", reason="the demo model's data needs jinja2")
pytest.importorskip("tokenizers", reason="the demo model's data needs tokenizers")

from models.demo.training.data import EVALUATED, SKILLS, conversations, held_out_prompts
from models.demo.training.skills import arithmetic, facts
from models.demo.training.skills.core import draw, held_out


def test_the_same_seed_gives_the_same_conversations() -> None:
    first, second = ([e.messages for e in itertools.islice(conversations(7), 50)] for _ in range(2))
    assert first == second
    assert first != [e.messages for e in itertools.islice(conversations(8), 50)]


@pytest.mark.parametrize("name", sorted(EVALUATED))
def test_held_out_prompts_are_never_trained(name: str) -> None:
    prompts = held_out_prompts(name, 20)
    assert len(prompts) >= 8
    assert all(held_out(e.key) for e in prompts)


@pytest.mark.parametrize("name", sorted(SKILLS))
def test_training_draws_stay_on_their_side_of_the_split(name: str) -> None:
    rng = Random(1)
    for _ in range(20):
        exchange = draw(SKILLS[name][0], rng, False)
        assert not held_out(exchange.key)
        assert exchange.messages[0]["role"] == "user"
        assert exchange.messages[-1]["role"] == "assistant"
        assert exchange.messages[-1]["content"].strip()


def test_a_sum_is_held_out_in_either_order() -> None:
    rng = Random(2)
    keys = {tuple(sorted(e.key.split("|")[1:])) for e in (draw(arithmetic.addition, rng, True) for _ in range(200))}
    for e in (draw(arithmetic.word_sum, rng, False) for _ in range(500)):
        assert tuple(sorted(e.key.split("|")[1:])) not in keys


@pytest.mark.parametrize(("a", "b"), [(47, 38), (99, 99), (5, 60), (0, 0), (999, 1), (123, 45)])
def test_column_work_ends_in_the_sum(a: int, b: int) -> None:
    assert arithmetic.column_sum(a, b).endswith(f"So {a + b}.")


@pytest.mark.parametrize(("a", "b"), [(47, 38), (90, 9), (60, 5), (7, 7), (50, 49)])
def test_column_work_ends_in_the_difference(a: int, b: int) -> None:
    text = arithmetic.column_difference(a, b)
    assert text.endswith(f"So {a - b}.")
    shown = [int(step.split("=")[1].split(",")[0].strip(" .")) for step in text.split(". ")[1:-1] if "=" in step]
    assert sum(digit * 10**place for place, digit in enumerate(shown)) == a - b


def test_the_wanted_json_is_the_answer() -> None:
    for exchange in held_out_prompts("json", 30):
        assert json.loads(exchange.messages[-1]["content"]) == exchange.expect


def test_calls_name_an_offered_tool_and_its_parameters() -> None:
    for exchange in held_out_prompts("tool call", 40):
        assert exchange.tools is not None
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in exchange.tools}
        assert set(exchange.expect["arguments"]) == set(offered[exchange.expect["name"]]["required"])


def test_what_was_told_is_in_the_conversation() -> None:
    for exchange in held_out_prompts("recall", 40):
        said = " ".join(m["content"] for m in exchange.messages[:-1] if m["role"] == "user")
        assert exchange.expect.lower() in said.lower()


def test_a_follow_up_starts_with_a_trained_question() -> None:
    rng = Random(5)
    asked = {e.messages[0]["content"].lower() for e in held_out_prompts("facts", 100)}
    for _ in range(300):
        assert draw(facts.follow_up, rng, False).messages[0]["content"].lower() not in asked
