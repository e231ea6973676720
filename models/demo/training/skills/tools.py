"""Calling one of the offered tools and using its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from .core import Exchange, Message, Tool, assistant, phrase, user
from .vocabulary import COLOURS, DAYS, FOODS, THINGS, city, code, invented, person

Values = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A tool: its description, parameters (name -> type), values, questions, result fields and the final answer."""

    name: str
    about: str
    parameters: dict[str, str]
    values: Callable[[Random], Values]
    asks: list[str]
    result: Callable[[Random, Values], Values]
    answer: str


_SKIES = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear"]

KINDS = [
    Kind(
        "get_weather",
        "Get the weather in a city.",
        {"city": "string"},
        lambda r: {"city": city(r)},
        [
            "What is the weather in {city}?",
            "How is the weather in {city}?",
            "weather in {city}",
            "Is it nice in {city} today?",
            "What's the weather like in {city}?",
            "Tell me the weather in {city}.",
        ],
        lambda r, v: {"sky": r.choice(_SKIES), "temperature": r.randint(-9, 38)},
        "It is {sky} in {city}, {temperature} degrees.",
    ),
    Kind(
        "get_time",
        "Get the local time in a city.",
        {"city": "string"},
        lambda r: {"city": city(r)},
        ["What time is it in {city}?", "What is the time in {city}?", "time in {city}?", "Tell me the time in {city}."],
        lambda r, v: {"time": f"{r.randint(0, 23):02d}:{r.randint(0, 59):02d}"},
        "It is {time} in {city}.",
    ),
    Kind(
        "calculate",
        "Calculate an expression.",
        {"expression": "string"},
        lambda r: {"expression": f"{r.randint(2, 999)} {r.choice('+-*')} {r.randint(2, 999)}"},
        [
            "Calculate {expression}.",
            "What is {expression}?",
            "Use the tool to calculate {expression}.",
            "{expression} = ?",
        ],
        lambda r, v: {"result": _value(v["expression"])},
        "{expression} = {result}.",
    ),
    Kind(
        "roll_dice",
        "Roll a die.",
        {"sides": "integer"},
        lambda r: {"sides": r.choice([4, 6, 8, 10, 12, 20, 30, 100])},
        ["Roll a die with {sides} sides.", "Roll a {sides}-sided die.", "Throw a die with {sides} sides for me."],
        lambda r, v: {"rolled": r.randint(1, v["sides"])},
        "You rolled {rolled}.",
    ),
    Kind(
        "lookup_user",
        "Look up a user by name.",
        {"name": "string"},
        lambda r: {"name": person(r)},
        [
            "Look up the user {name}.",
            "What is the email of {name}?",
            "Find the user {name}.",
            "Who is the user {name}?",
        ],
        lambda r, v: {"email": f"{v['name'].lower()}@{r.choice(['mail', 'post', 'work'])}.com"},
        "The email of {name} is {email}.",
    ),
    Kind(
        "convert_currency",
        "Convert an amount of money.",
        {"amount": "integer", "source": "string", "target": "string"},
        lambda r: dict(
            zip(("source", "target"), r.sample(["USD", "EUR", "GBP", "JPY", "CHF", "SEK"], 2), strict=True),
            amount=r.randint(1, 900),
        ),
        [
            "Convert {amount} {source} to {target}.",
            "How much is {amount} {source} in {target}?",
            "{amount} {source} in {target}?",
        ],
        lambda r, v: {"converted": r.randint(1, 2000)},
        "{amount} {source} is {converted} {target}.",
    ),
    Kind(
        "set_timer",
        "Set a timer.",
        {"minutes": "integer"},
        lambda r: {"minutes": r.randint(1, 90)},
        ["Set a timer for {minutes} minutes.", "Wake me in {minutes} minutes.", "Please set a {minutes} minute timer."],
        lambda r, v: {"status": "set"},
        "The timer is set for {minutes} minutes.",
    ),
    Kind(
        "search_notes",
        "Search the notes of the user.",
        {"query": "string"},
        lambda r: {"query": r.choice([*THINGS, *FOODS, *COLOURS])},
        ["Search my notes for {query}.", "What do my notes say about {query}?", "Find {query} in my notes."],
        lambda r, v: {"note": f"buy {r.randint(2, 30)} on {r.choice(DAYS)}"},
        "Your note says: {note}.",
    ),
    Kind(
        "send_message",
        "Send a message to a person.",
        {"to": "string", "text": "string"},
        lambda r: {
            "to": person(r),
            "text": r.choice(["hello", "I am late", "call me", "see you soon", "good morning", "dinner is ready"]),
        },
        ["Send the message '{text}' to {to}.", "Write '{text}' to {to}.", "Tell {to}: '{text}'."],
        lambda r, v: {"status": "sent"},
        "I sent '{text}' to {to}.",
    ),
    Kind(
        "get_price",
        "Get the price of a product.",
        {"product": "string"},
        lambda r: {"product": r.choice(THINGS)},
        ["How much does the {product} cost?", "What is the price of the {product}?", "price of the {product}?"],
        lambda r, v: {"price": r.randint(1, 400)},
        "The {product} costs {price}.",
    ),
]


def _value(expression: str) -> int:
    a, sign, b = expression.split()
    return {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]


def _invented_kind(rng: Random) -> Kind:
    """A tool nobody has seen: its name and parameter exist only in the offered schema."""
    verb, noun, parameter = (
        rng.choice(["get", "find", "check", "open", "read"]),
        invented(rng),
        rng.choice(["id", "name", "key", "item", "place"]),
    )
    return Kind(
        f"{verb}_{noun}",
        f"{verb.capitalize()} the {noun} of one {parameter}.",
        {parameter: "string"},
        lambda r: {parameter: code(r) if r.random() < 0.5 else person(r)},
        [
            f"{verb.capitalize()} the {noun} of {{{parameter}}}.",
            f"{verb.capitalize()} the {noun} for {{{parameter}}}.",
            f"Use {verb}_{noun} with {{{parameter}}}.",
        ],
        lambda r, v: {"result": code(r)},
        f"The {noun} of {{{parameter}}} is {{result}}.",
    )


def schema(kind: Kind) -> Tool:
    """The offered form of a tool."""
    properties = {name: {"type": type_} for name, type_ in kind.parameters.items()}
    parameters = {"type": "object", "properties": properties, "required": list(kind.parameters)}
    return {"type": "function", "function": {"name": kind.name, "description": kind.about, "parameters": parameters}}


def offer(rng: Random, first: list[Kind]) -> list[Tool]:
    """The given kinds among others, one to three in all, in any order."""
    others = [kind for kind in KINDS if kind.name not in {f.name for f in first}]
    kinds = first + rng.sample(others, rng.choices([0, 1, 2], [5, 4, 1])[0])
    rng.shuffle(kinds)
    return [schema(kind) for kind in kinds]


def call(rng: Random) -> Exchange:
    """A request that needs a tool: the call, the result, and the answer made from it."""
    kind = _invented_kind(rng) if rng.random() < 0.25 else rng.choice(KINDS)
    values = kind.values(rng)
    result = kind.result(rng, values)
    question = phrase(rng, kind.asks, **values)
    shown = json.dumps(result) if rng.random() < 0.7 else ", ".join(f"{k}: {v}" for k, v in result.items())
    arguments = {name: values[name] for name in kind.parameters}
    request: Message = assistant("", f"I need {kind.name}.")
    request["tool_calls"] = [{"type": "function", "function": {"name": kind.name, "arguments": arguments}}]
    answer = kind.answer.format(**{**values, **result})
    messages = [
        user(question),
        request,
        {"role": "tool", "content": shown},
        assistant(answer[0].upper() + answer[1:] if not answer.startswith("'") else answer, "The tool has answered."),
    ]
    expect = {"name": kind.name, "arguments": {k: str(v) for k, v in arguments.items()}}
    key = f"tool|{kind.name}|{'|'.join(map(str, arguments.values()))}"
    return Exchange("tool call", key, messages, expect, "call", tools=offer(rng, [kind]), target=1, tags={"answer"})


def use_result(rng: Random) -> Exchange:
    """The same, judged on the final answer."""
    exchange = call(rng)
    exchange.skill, exchange.target, exchange.match = "tool answer", -1, "exact"
    exchange.expect = exchange.messages[-1]["content"]
    return exchange


def missing(rng: Random) -> Exchange:
    """A request for a tool that is not offered."""
    kind = rng.choice([k for k in KINDS if k.name not in ("calculate", "search_notes")])
    values = kind.values(rng)
    others = [k for k in KINDS if k.name != kind.name]
    tools = [schema(k) for k in rng.sample(others, rng.randint(1, 2))]
    messages = [
        user(phrase(rng, kind.asks, **values)),
        assistant("I have no tool for that.", "None of the tools can do this."),
    ]
    return Exchange(
        "no tool", f"missing|{kind.name}|{'|'.join(map(str, values.values()))}", messages, "no tool", tools=tools
    )
