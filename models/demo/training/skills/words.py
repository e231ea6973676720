"""Letters and lists: spelling, reversing, counting, sorting, first and last."""

from __future__ import annotations

from random import Random

from .core import Exchange, phrase, say
from .vocabulary import ADJECTIVES, ANIMALS, COLOURS, NAMES, PLACES, THINGS, UNITS

SPELLED = sorted({*THINGS, *ANIMALS, *COLOURS, *PLACES, *ADJECTIVES})


def _letters(word: str) -> str:
    return "-".join(word)


def spell(rng: Random) -> Exchange:
    word = rng.choice(SPELLED)
    templates = [
        "Spell {w}.",
        "How do you spell {w}?",
        "Spell the word {w}.",
        "Can you spell {w}?",
        "Please spell {w}.",
    ]
    index = rng.randrange(len(templates))
    question = phrase(rng, [templates[index]], w=word)
    return say("spelling", f"{word}|{index}", question, f"The word is {word}.", _letters(word))


def reverse(rng: Random) -> Exchange:
    word = rng.choice([w for w in SPELLED if len(w) < 8])
    question = phrase(
        rng,
        ["Reverse the word {w}.", "Write {w} backwards.", "Reverse {w}.", "Spell {w} backwards.", "{w} backwards?"],
        w=word,
    )
    back = _letters(word[::-1])
    return say("reversing", word, question, f"{word}: {_letters(word)}. Backwards: {back}.", back)


def letters(rng: Random) -> Exchange:
    word = rng.choice(SPELLED)
    question = phrase(
        rng, ["How many letters are in {w}?", "How many letters does {w} have?", "Count the letters in {w}."], w=word
    )
    steps = " ".join(f"{letter} {i}" for i, letter in enumerate(word, 1))
    return say("letters", word, question, f"{steps}.", f"The word {word} has {len(word)} letters.")


def count_to(rng: Random) -> Exchange:
    low, span = rng.choice([1, 1, 1, rng.randint(2, 80)]), rng.randint(2, 12)
    high = low + span
    down = rng.random() < 0.25
    a, b = (high, low) if down else (low, high)
    question = phrase(rng, ["Count from {a} to {b}.", "Please count from {a} to {b}.", "count {a} to {b}"], a=a, b=b)
    if low == 1 and not down and rng.random() < 0.4:
        question = phrase(rng, ["Count to {b}.", "Can you count to {b}?"], b=b)
    numbers = range(a, b - 1, -1) if down else range(a, b + 1)
    return say("counting", f"{a}|{b}", question, f"From {a} to {b}.", ", ".join(map(str, numbers)) + ".")


def _bunch(rng: Random, low: int, high: int) -> list[str]:
    return rng.sample(rng.choice([THINGS, ANIMALS, COLOURS, NAMES[:40]]), rng.randint(low, high))


def count_items(rng: Random) -> Exchange:
    items = _bunch(rng, 2, 7)
    question = phrase(
        rng,
        ["How many words are in this list: {l}?", "How many items are here: {l}?", "Count these: {l}"],
        l=", ".join(items),
    )
    thought = ", ".join(f"{item} {i}" for i, item in enumerate(items, 1)) + "."
    return say("count items", "|".join(items), question, thought, f"There are {len(items)} ({UNITS[len(items)]}).")


def sort_numbers(rng: Random) -> Exchange:
    numbers = rng.sample(range(1, 100), rng.randint(3, 5))
    question = phrase(
        rng,
        ["Sort these numbers: {l}", "Sort {l}.", "Put these numbers in order: {l}", "Order these numbers: {l}"],
        l=", ".join(map(str, numbers)),
    )
    ordered = ", ".join(map(str, sorted(numbers)))
    return say("sorting", "|".join(map(str, sorted(numbers))), question, "Smallest first.", ordered)


def sort_words(rng: Random) -> Exchange:
    items = rng.sample(rng.choice([THINGS, ANIMALS, COLOURS]), rng.randint(3, 4))
    question = phrase(
        rng,
        ["Sort these words: {l}", "Put these words in alphabetical order: {l}", "Sort {l} from a to z."],
        l=", ".join(items),
    )
    return say(
        "sorting words", "|".join(sorted(items)), question, "In the order of the alphabet.", ", ".join(sorted(items))
    )


def pick(rng: Random) -> Exchange:
    items = _bunch(rng, 3, 6)
    place, index = rng.choice([("first", 0), ("last", -1), ("second", 1), ("third", 2)])
    question = phrase(
        rng,
        ["What is the {p} word in this list: {l}?", "Which word is {p}: {l}?", "Name the {p} item: {l}"],
        p=place,
        l=", ".join(items),
    )
    return say(
        "list item", "|".join(items), question, f"The {place} is {items[index]}.", f"The {place} is {items[index]}."
    )
