"""Very short stories about an animal the user names."""

from __future__ import annotations

from random import Random

from .core import Exchange, article, phrase, say
from .vocabulary import ADJECTIVES, ANIMALS, COLOURS, NAMES, PLACES, THINGS

_ASK = [
    "Tell me a story about {x}.",
    "Tell me a short story about {x}.",
    "Write a story about {x}.",
    "A story about {x}, please.",
    "Can you tell me a story about {x}?",
    "Make up a story about {x}.",
]


def _plot(rng: Random, animal: str, name: str) -> str:
    place, friend, thing = rng.choice(PLACES), rng.choice([a for a in ANIMALS if a != animal]), rng.choice(THINGS)
    look = rng.choice(ADJECTIVES)
    opening = f"Once there was {article(animal)} called {name}. {name} lived near the {place}."
    return rng.choice(
        [
            f"{opening} One day {name} found {article(look)} {thing}."
            f" {article(friend).capitalize()} came by and asked to see it."
            f" They shared the {thing}, and from that day they were friends.",
            f"{opening} One night {name} heard a sound. It was {article(friend)} who had lost the way."
            f" {name} showed the {friend} the way home, and the {friend} gave {name} {article(look)} {thing}.",
            f"{opening} {name} wanted to find the {rng.choice(COLOURS)} {thing}."
            f" {name} looked all day and asked {article(friend)}."
            f" The {friend} had seen it by the {rng.choice(PLACES)}."
            f" In the evening {name} came home with it and was happy.",
        ]
    )


def story(rng: Random) -> Exchange:
    animal, name = rng.choice(ANIMALS), rng.choice(NAMES)
    named = rng.random() < 0.3
    x = f"{article(animal)} called {name}" if named else article(animal)
    question = phrase(rng, _ASK, x=x)
    if rng.random() < 0.15:
        question = phrase(
            rng, ["Tell me a story.", "Tell me a short story.", "A story, please.", "I want to hear a story."]
        )
    return say(
        "story",
        f"{animal}|{name}",
        question,
        f"A short story about {article(animal)} called {name}.",
        _plot(rng, animal, name),
        animal,
    )
