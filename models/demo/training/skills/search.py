"""Finding a code in a long text, and copying text word for word."""

from __future__ import annotations

from random import Random

from .core import Exchange, assistant, phrase, say, user
from .vocabulary import ADJECTIVES, COLOURS, COUNTED, NAMES, PLACES, THINGS, VERBS, code

_PLANTED = [
    "The code for the {x} is {v}.",
    "The code of the {x} is {v}.",
    "Note: the code for the {x} is {v}.",
    "Remember that the {x} has the code {v}.",
    "To open the {x}, use the code {v}.",
]
_ASK = [
    "What is the code for the {x}?",
    "What is the code of the {x}?",
    "Which code opens the {x}?",
    "Find the code for the {x}.",
    "Tell me the code for the {x}.",
    "code for the {x}?",
]


def sentence(rng: Random) -> str:
    """One sentence of plain filler."""
    name, thing, place = rng.choice(NAMES), f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)}", rng.choice(PLACES)
    form = rng.randrange(5)
    if form == 0:
        return f"{name} {rng.choice(VERBS)} the {thing} near the {place}."
    if form == 1:
        return f"The {thing} was in the {place}."
    if form == 2:
        return f"In the {place}, {name} {rng.choice(VERBS)} {rng.randint(2, 20)} {rng.choice(COUNTED)}."
    if form == 3:
        return f"{name} and {rng.choice(NAMES)} walked to the {place}."
    return f"There was a {thing} and a {rng.choice(ADJECTIVES)} {rng.choice(THINGS)}."


def haystack(rng: Random, sentences: int, planted: int) -> tuple[str, list[tuple[str, str]]]:
    """A text with `planted` codes in it, and the (owner, code) pairs."""
    owners: list[str] = []
    while len(owners) < planted:
        owner = rng.choice(
            [f"{rng.choice(COLOURS)} {rng.choice(['door', 'box', 'gate', 'safe', 'key'])}", rng.choice(PLACES)]
        )
        if owner not in owners:
            owners.append(owner)
    pairs = [(owner, code(rng)) for owner in owners]
    lines = [sentence(rng) for _ in range(sentences)]
    for owner, value in pairs:
        lines.insert(rng.randint(0, len(lines)), rng.choice(_PLANTED).format(x=owner, v=value))
    return " ".join(lines), pairs


def find(rng: Random, shortest: int = 2, longest: int = 10) -> Exchange:
    text, pairs = haystack(rng, rng.randint(shortest, longest), rng.choices([1, 2, 3], [4, 3, 2])[0])
    owner, value = rng.choice(pairs)
    question = phrase(rng, _ASK, x=owner)
    answer = assistant(f"The code for the {owner} is {value}.", f"The text says the code for the {owner} is {value}.")
    form = rng.random()
    if form < 0.45:
        messages = [user(f"{text}\n\n{question}"), answer]
    elif form < 0.65:
        messages = [user(f"{question}\n\n{text}"), answer]
    elif form < 0.8:
        messages = [user(f"Read this text: {text} {question}"), answer]
    else:
        messages = [
            user(f"Read this text and wait for my question.\n\n{text}"),
            assistant("I have read it. What would you like to know?", "The user gave me a text to read."),
            user(question),
            answer,
        ]
    return Exchange("find code", f"find|{owner}|{value}", messages, value)


def find_long(rng: Random) -> Exchange:
    """400 to 1,000 tokens of text."""
    return find(rng, 25, 68)


def repeat(rng: Random) -> Exchange:
    """Copying: words, invented words and numbers."""
    dice = rng.random()
    if dice < 0.4:
        text = " ".join(rng.choice(rng.choice([THINGS, COLOURS, PLACES, ADJECTIVES])) for _ in range(rng.randint(1, 6)))
    elif dice < 0.7:
        text = sentence(rng).rstrip(".")
    else:
        text = " ".join(code(rng) for _ in range(rng.randint(1, 3)))
    question = phrase(
        rng, ["Repeat: {t}", "Repeat after me: {t}", "Say {t}", "Please repeat this: {t}", "Say this: {t}"], t=text
    )
    return say("repeat", text, question, "I repeat the text.", text)
