"""JSON to a described schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from .core import Exchange, phrase, say
from .vocabulary import ADJECTIVES, ANIMALS, COLOURS, FOODS, HOBBIES, JOBS, THINGS, city, invented, person

Maker = Callable[[Random], Any]

_FIELDS: dict[str, tuple[str, Maker, list[str]]] = {
    "age": ("integer", lambda r: r.randint(1, 95), ["is {v} years old", "is {v}"]),
    "city": ("string", city, ["lives in {v}", "is from {v}"]),
    "job": ("string", lambda r: r.choice(JOBS), ["works as a {v}", "is a {v}"]),
    "colour": ("string", lambda r: r.choice(COLOURS), ["likes the colour {v}"]),
    "food": ("string", lambda r: r.choice(FOODS), ["likes {v}", "eats {v}"]),
    "hobby": ("string", lambda r: r.choice(HOBBIES), ["enjoys {v}", "loves {v}"]),
    "friend": ("string", person, ["has a friend called {v}"]),
    "pet": ("string", lambda r: r.choice(ANIMALS), ["has a {v}"]),
    "children": ("integer", lambda r: r.randint(1, 6), ["has {v} children"]),
    "height": ("integer", lambda r: r.randint(120, 199), ["is {v} cm tall"]),
    "married": ("boolean", lambda r: r.random() < 0.5, []),
}
_ITEM_FIELDS: dict[str, tuple[str, Maker, list[str]]] = {
    "price": ("integer", lambda r: r.randint(1, 500), ["costs {v} dollars", "costs {v}"]),
    "colour": ("string", lambda r: r.choice(COLOURS), ["is {v}"]),
    "weight": ("integer", lambda r: r.randint(1, 90), ["weighs {v} kg"]),
    "count": ("integer", lambda r: r.randint(1, 60), ["comes in packs of {v}"]),
    "condition": ("string", lambda r: r.choice(ADJECTIVES), ["looks {v}"]),
    "maker": ("string", person, ["was made by {v}"]),
    "available": ("boolean", lambda r: r.random() < 0.5, []),
}
_ASK = [
    "Return JSON with the keys {k} for: {t}",
    "Return JSON with keys {k} for: {t}",
    "Turn this into JSON with the keys {k}: {t}",
    "Extract {k} as JSON: {t}",
    "{t}\nGive me JSON with the keys {k}.",
    "Make a JSON object with {k} from this: {t}",
    "Write this as JSON. Keys: {k}. Text: {t}",
]


def _clause(rng: Random, key: str, value: Any, templates: list[str]) -> str:
    if isinstance(value, bool):
        return f"is {'' if value else 'not '}{key}"
    return rng.choice(templates).format(v=value)


def extract(rng: Random) -> Exchange:
    """One sentence about a person or a thing, keys with types, the exact object back."""
    human = rng.random() < 0.65
    fields = _FIELDS if human else _ITEM_FIELDS
    head = "name" if human else "item"
    subject = person(rng) if human else (rng.choice(THINGS) if rng.random() < 0.8 else invented(rng))
    keys = rng.sample(list(fields), rng.choices([1, 2, 3], [4, 4, 2])[0])
    values = {key: fields[key][1](rng) for key in keys}
    clauses = [_clause(rng, key, values[key], fields[key][2]) for key in keys]
    text = f"{subject if human else 'The ' + subject} {' and '.join(clauses)}."
    order = [head, *keys]
    if rng.random() < 0.25:
        rng.shuffle(order)
    types = {head: "string", **{key: fields[key][0] for key in keys}}
    typed = rng.random() < 0.7
    shown = ", ".join(f"{key} ({types[key]})" if typed else key for key in order)
    wanted = {key: subject if key == head else values[key] for key in order}
    answer = json.dumps(wanted, ensure_ascii=False)
    thought = (
        "; ".join(
            f"{key}: {json.dumps(wanted[key]) if isinstance(wanted[key], bool) else wanted[key]}" for key in order
        )
        + "."
    )
    question = phrase(rng, _ASK, k=shown, t=text)
    return say("json", f"{text}", question, thought, answer, wanted, "json")
