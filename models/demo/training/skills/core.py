"""What every skill shares: the exchange, the split into training and held-out keys, and noisy phrasing."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

Message = dict[str, Any]
Tool = dict[str, Any]
T = TypeVar("T")

HELD_OUT_SHARE = 10


@dataclass
class Exchange:
    """One user request and everything up to the final answer.

    `key` decides the split; `expect` is what a correct reply at message `target` holds, compared as `match` says:
    contains | exact | json | call.
    """

    skill: str
    key: str
    messages: list[Message]
    expect: Any
    match: str = "contains"
    tools: list[Tool] | None = None
    system: str | None = None
    target: int = -1
    tags: set[str] = field(default_factory=set)


Skill = Callable[[Random], Exchange]


def held_out(key: str) -> bool:
    """Whether a key belongs to the held-out tenth, the same on every machine."""
    return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def draw(skill: Skill, rng: Random, evaluation: bool) -> Exchange:
    """The next exchange of a skill whose key lies on the wanted side of the split."""
    while True:
        exchange = skill(rng)
        if held_out(exchange.key) == evaluation:
            return exchange


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str, thought: str = "") -> Message:
    return {"role": "assistant", "content": content, "reasoning_content": thought}


def say(
    skill: str, key: str, question: str, thought: str, answer: str, expect: Any = None, match: str = ""
) -> Exchange:
    """A single question and answer; without `expect` the whole answer must match."""
    how = match or ("exact" if expect is None else "contains")
    return Exchange(skill, f"{skill}|{key}", [user(question), assistant(answer, thought)], expect or answer, how)


def messy(rng: Random, text: str) -> str:
    """Text as people type it: sometimes lower case, upper case, with a slip, or without its final mark."""
    dice = rng.random()
    if dice < 0.22:
        text = text.lower()
    elif dice < 0.25:
        text = text.upper()
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    if rng.random() < 0.06 and len(text) > 8:
        i = rng.randrange(1, len(text) - 2)
        if text[i].isalpha() and text[i + 1].isalpha():
            text = text[:i] + (text[i + 1] + text[i] if rng.random() < 0.5 else text[i + 1]) + text[i + 2 :]
    return text


def phrase(rng: Random, templates: Sequence[str], **values: object) -> str:
    """A template with noise on its own words; the values go in untouched."""
    parts = re.split(r"(\{\w+\})", rng.choice(templates))
    dice = rng.random()
    for i in range(0, len(parts), 2):
        if dice < 0.22:
            parts[i] = parts[i].lower()
        elif dice < 0.24:
            parts[i] = parts[i].upper()
        if rng.random() < 0.04 and len(parts[i]) > 6:
            parts[i] = slip(rng, parts[i])
    text = "".join(parts)
    if rng.random() < 0.2:
        text = text.rstrip("?.!")
    return text.format(**values)


def slip(rng: Random, text: str) -> str:
    """One typing slip: two neighbouring letters swapped, or one dropped."""
    i = rng.randrange(1, len(text) - 2)
    if not (text[i].isalpha() and text[i + 1].isalpha()):
        return text
    return text[:i] + (text[i + 1] + text[i] if rng.random() < 0.5 else text[i + 1]) + text[i + 2 :]


def article(noun: str) -> str:
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def listing(items: Sequence[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
