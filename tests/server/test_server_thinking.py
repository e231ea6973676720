"""Efforts, switches and budgets of thinking, whoever's they are."""

import pytest

from qwen35_local.errors import InputError
from qwen35_local.server.thinking import OFF, ON, Thinking, of_effort


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("none", OFF),
        ("minimal", OFF),
        ("low", Thinking(True, 1024)),
        ("medium", Thinking(True, 8192)),
        ("high", ON),
        ("xhigh", ON),
        ("max", ON),
    ],
)
def test_an_effort_is_a_switch_and_a_budget(word: str, meaning: Thinking) -> None:
    assert of_effort(word, "reasoning_effort") == meaning


@pytest.mark.parametrize("value", ["", "HIGH", "off", 3, True, None, ["low"], {"low": 1}])
def test_another_effort_is_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match=r"^reasoning\.effort: expected one of none, minimal, low"):
        of_effort(value, "reasoning.effort")


def test_a_switch_outranks_an_effort() -> None:
    low = of_effort("low", "reasoning_effort")
    assert low.with_switch(None) == low
    assert low.with_switch(False) == OFF
    assert low.with_switch(True) == low
    assert OFF.with_switch(True) == ON


def test_a_budget_outranks_that_of_an_effort() -> None:
    low = of_effort("low", "reasoning_effort")
    assert low.with_budget(None) == low
    assert low.with_budget(77) == Thinking(True, 77)
    assert low.with_budget(0) == OFF
    assert OFF.with_budget(77) == OFF
    assert Thinking().with_budget(77) == Thinking(None, 77)
