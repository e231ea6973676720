"""Sums with visible column work, differences, times tables, comparisons, and short word problems."""

from __future__ import annotations

from random import Random

from .core import Exchange, phrase, say
from .vocabulary import COUNTED, person

_ADD = [
    "What is {a} + {b}?",
    "{a} + {b}",
    "{a}+{b}",
    "{a} + {b} = ?",
    "{a}+{b}=",
    "What is {a} plus {b}?",
    "Add {a} and {b}.",
    "How much is {a} + {b}?",
    "Calculate {a} + {b}.",
    "{a} plus {b}",
    "Can you add {a} and {b}?",
    "What's {a}+{b}?",
    "Please compute {a} + {b}.",
    "The sum of {a} and {b}?",
    "What is the sum of {a} and {b}?",
]
_SUBTRACT = [
    "What is {a} - {b}?",
    "{a} - {b}",
    "{a}-{b}",
    "{a} minus {b}",
    "What is {a} minus {b}?",
    "Subtract {b} from {a}.",
    "How much is {a} - {b}?",
    "Calculate {a} - {b}.",
]
_TIMES = [
    "What is {a} x {b}?",
    "{a} * {b}",
    "{a} times {b}",
    "What is {a} times {b}?",
    "Multiply {a} by {b}.",
    "{a}*{b}",
    "How much is {a} x {b}?",
]
_PLACES = ["Ones", "Tens", "Hundreds", "Thousands"]


def column_sum(a: int, b: int) -> str:
    """The column work of a + b, least significant digit first."""
    steps, carry, i = [f"{a} + {b}."], 0, 0
    while i < max(len(str(a)), len(str(b))):
        x, y = a // 10**i % 10, b // 10**i % 10
        total = x + y + carry
        left = f"{x} + {y}" + (f" + {carry}" if carry else "") + f" = {total}"
        carry = total // 10
        steps.append(f"{_PLACES[i]}: {left}, write {total % 10}" + (f", carry {carry}." if carry else "."))
        i += 1
    if carry:
        steps.append(f"{_PLACES[i]}: {carry}.")
    return " ".join(steps) + f" So {a + b}."


def column_difference(a: int, b: int) -> str:
    """The column work of a - b with a >= b, borrowing where needed."""
    steps, borrow = [f"{a} - {b}."], 0
    for i in range(len(str(a))):
        x, y = a // 10**i % 10 - borrow, b // 10**i % 10
        borrow = 1 if x < y else 0
        shown = f"{x + 10} - {y} = {x + 10 - y}, borrow 1." if borrow else f"{x} - {y} = {x - y}."
        steps.append(f"{_PLACES[i]}: {shown}")
    return " ".join(steps) + f" So {a - b}."


def _pair(rng: Random) -> tuple[int, int]:
    dice = rng.random()
    if dice < 0.68:
        return rng.randint(10, 99), rng.randint(10, 99)
    if dice < 0.82:
        return rng.randint(0, 99), rng.randint(0, 12)
    if dice < 0.9:
        return rng.randint(0, 12), rng.randint(0, 99)
    return rng.randint(100, 999), rng.randint(10, 999)


def addition(rng: Random) -> Exchange:
    a, b = _pair(rng)
    return _sum(rng, a, b, "addition")


def two_digit_addition(rng: Random) -> Exchange:
    return _sum(rng, rng.randint(10, 99), rng.randint(10, 99), "addition")


def _sum(rng: Random, a: int, b: int, skill: str) -> Exchange:
    question = phrase(rng, _ADD, a=a, b=b)
    exchange = say(skill, "", question, column_sum(a, b), f"{a} + {b} = {a + b}.")
    exchange.key = f"sum|{min(a, b)}|{max(a, b)}"
    return exchange


def word_sum(rng: Random) -> Exchange:
    a, b, name, thing = rng.randint(2, 60), rng.randint(2, 39), person(rng), rng.choice(COUNTED)
    question = phrase(
        rng,
        [
            "{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?",
            "{n} has {a} {t} and gets {b} more. How many {t} is that?",
            "There are {a} {t} in a box. {n} puts in {b} more. How many {t} are in the box?",
        ],
        n=name,
        a=a,
        b=b,
        t=thing,
    )
    exchange = say("word sum", "", question, column_sum(a, b), f"{a} + {b} = {a + b} {thing}.")
    exchange.key = f"sum|{min(a, b)}|{max(a, b)}"
    return exchange


def subtraction(rng: Random) -> Exchange:
    a, b = rng.randint(5, 99), rng.randint(0, 99)
    a, b = max(a, b), min(a, b)
    question = phrase(rng, _SUBTRACT, a=a, b=b)
    return say("subtraction", f"{a}|{b}", question, column_difference(a, b), f"{a} - {b} = {a - b}.")


def multiplication(rng: Random) -> Exchange:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    index = rng.randrange(len(_TIMES))
    question = phrase(rng, [_TIMES[index]], a=a, b=b)
    return say("multiplication", f"{a}|{b}|{index}", question, f"{a} times {b} is {a * b}.", f"{a} x {b} = {a * b}.")


def comparison(rng: Random) -> Exchange:
    a, b = rng.sample(range(100), 2)
    larger = rng.random() < 0.6
    word = rng.choice(["larger", "bigger", "greater"]) if larger else "smaller"
    question = phrase(
        rng,
        ["Which is {w}, {a} or {b}?", "What is {w}: {a} or {b}?", "Which number is {w}: {a} or {b}?"],
        w=word,
        a=a,
        b=b,
    )
    result = max(a, b) if larger else min(a, b)
    sign = ">" if a > b else "<"
    return say("comparison", f"{a}|{b}", question, f"{a} {sign} {b}.", f"{result} is {word}.")
