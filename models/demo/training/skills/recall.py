"""Telling the model something about oneself and asking for it later."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .core import Exchange, Message, assistant, phrase, user
from .vocabulary import ANIMALS, COLOURS, FOODS, HOBBIES, JOBS, city, code, digits, person

Value = Callable[[Random], str]

_ATTRIBUTES: dict[str, tuple[Value, list[str], list[str], list[str], str]] = {
    "name": (
        person,
        [
            "My name is {v}.",
            "I am {v}.",
            "I'm {v}.",
            "Hi, my name is {v}.",
            "Hello, I'm {v}.",
            "Call me {v}.",
            "Hey! I am {v}.",
        ],
        ["Nice to meet you, {v}.", "Hello {v}, nice to meet you."],
        [
            "What is my name?",
            "What's my name?",
            "Do you remember my name?",
            "Who am I?",
            "Can you tell me my name?",
            "What am I called?",
            "Do you know my name?",
        ],
        "Your name is {v}.",
    ),
    "favourite colour": (
        lambda rng: rng.choice(COLOURS),
        ["My favourite colour is {v}.", "I like the colour {v} best.", "{v} is my favourite colour."],
        ["{v} is a nice colour."],
        ["What is my favourite colour?", "Which colour do I like best?", "Do you remember my favourite colour?"],
        "Your favourite colour is {v}.",
    ),
    "city": (
        city,
        ["I live in {v}.", "I am from {v}.", "My home is in {v}.", "I'm from {v}."],
        ["{v} is a good place to live."],
        ["Where do I live?", "Which city do I live in?", "Do you remember where I live?", "Where am I from?"],
        "You live in {v}.",
    ),
    "job": (
        lambda rng: rng.choice(JOBS),
        ["I work as a {v}.", "My job is {v}.", "I am a {v} by profession."],
        ["Being a {v} is good work."],
        ["What is my job?", "What do I do for work?", "Do you remember my job?", "What do I work as?"],
        "You work as a {v}.",
    ),
    "lucky number": (
        lambda rng: digits(rng, rng.randint(1, 3)),
        ["My lucky number is {v}.", "{v} is my lucky number."],
        ["I will remember the number {v}."],
        ["What is my lucky number?", "Do you remember my lucky number?", "What's my lucky number?"],
        "Your lucky number is {v}.",
    ),
    "code": (
        code,
        ["Remember this code: {v}.", "The code is {v}.", "My code is {v}.", "Please remember the code {v}."],
        ["I will remember the code {v}."],
        [
            "What was the code?",
            "What is the code?",
            "Tell me the code.",
            "Which code did I tell you?",
            "What is my code?",
        ],
        "The code is {v}.",
    ),
    "food": (
        lambda rng: rng.choice(FOODS),
        ["I love {v}.", "My favourite food is {v}.", "I like to eat {v}."],
        ["I hear {v} can be very good."],
        ["What is my favourite food?", "What do I like to eat?", "Which food do I like?"],
        "You like {v}.",
    ),
    "hobby": (
        lambda rng: rng.choice(HOBBIES),
        ["My hobby is {v}.", "In my free time I enjoy {v}."],
        ["{v} sounds like fun."],
        ["What is my hobby?", "What do I enjoy in my free time?", "Do you remember my hobby?"],
        "Your hobby is {v}.",
    ),
    "age": (
        lambda rng: str(rng.randint(18, 80)),
        ["I am {v} years old.", "I'm {v} years old.", "My age is {v}."],
        ["{v} is a fine age."],
        ["How old am I?", "What is my age?", "Do you remember how old I am?"],
        "You are {v} years old.",
    ),
    "friend": (
        person,
        ["My best friend is {v}.", "My friend is called {v}.", "My best friend's name is {v}."],
        ["{v} is lucky to have you as a friend."],
        ["What is my friend called?", "Who is my best friend?", "What is the name of my friend?"],
        "Your friend is called {v}.",
    ),
}
_PET_ASK = [
    "What is my {a} called?",
    "What is the name of my {a}?",
    "Do you remember the name of my {a}?",
    "What's my {a}'s name?",
]


class Told:
    """One thing the user told: its attribute, its value, how it is asked for and answered."""

    def __init__(self, rng: Random, taken: set[str]) -> None:
        choices = [name for name in (*_ATTRIBUTES, "pet") if name not in taken]
        weights = [3 if name == "name" else 1.5 if name in ("pet", "code") else 1 for name in choices]
        self.attribute = rng.choices(choices, weights)[0]
        taken.add(self.attribute)
        self.rng = rng
        self.animal = ""
        if self.attribute == "pet":
            self.animal, self.value = rng.choice(ANIMALS[:12]), person(rng)
            self.tell = phrase(
                rng,
                ["I have a {a} called {v}.", "My {a} is called {v}.", "My {a}'s name is {v}."],
                a=self.animal,
                v=self.value,
            )
            self.reply = f"{self.value} is a nice name for a {self.animal}."
            self.answer = f"Your {self.animal} is called {self.value}."
            self.asks = [ask.replace("{a}", self.animal) for ask in _PET_ASK]
            return
        make, tells, replies, self.asks, answer = _ATTRIBUTES[self.attribute]
        self.value = make(rng)
        index = rng.randrange(len(tells))
        self.tell = phrase(rng, [tells[index]], v=self.value)
        if index == len(tells) - 1 and self.tell.startswith(self.value) and self.value.islower():
            self.tell = self.tell[0].upper() + self.tell[1:]
        reply = replies[0].format(v=self.value)
        self.reply = reply[0].upper() + reply[1:]
        self.answer = answer.format(v=self.value)

    @property
    def key(self) -> str:
        return f"{self.attribute}|{self.value.lower()}"

    def telling(self) -> list[Message]:
        return [user(self.tell), assistant(self.reply, f"The user told me: {self.attribute_shown} is {self.value}.")]

    @property
    def attribute_shown(self) -> str:
        return f"the {self.animal}'s name" if self.animal else f"the {self.attribute}"

    def asking(self) -> list[Message]:
        question = phrase(self.rng, [ask.replace("{", "").replace("}", "") for ask in self.asks])
        return [user(question), assistant(self.answer, f"The user said {self.attribute_shown} is {self.value}.")]


def remember(rng: Random) -> Exchange:
    """Tells one to three things, in one message or several, and asks for one of them."""
    taken: set[str] = set()
    told = [Told(rng, taken) for _ in range(rng.choices([1, 2, 3], [5, 4, 2])[0])]
    wanted = rng.choice(told)
    messages: list[Message] = []
    if rng.random() < 0.35:
        question = wanted.asking()
        joined = " ".join(t.tell if t.tell[-1] in ".?!" else t.tell + "." for t in told)
        if rng.random() < 0.5:
            messages = [user(f"{joined} {question[0]['content']}"), question[1]]
        else:
            messages = [
                user(joined),
                assistant("Thank you, I will remember that.", "The user told me some things."),
                *question,
            ]
    else:
        for t in told:
            messages += t.telling()
        messages += wanted.asking()
    return Exchange("recall", f"recall|{wanted.key}", messages, wanted.value)


def learn(rng: Random) -> Exchange:
    """Only the telling: the model acknowledges."""
    told = Told(rng, set())
    return Exchange("telling", f"recall|{told.key}", told.telling(), told.value.lower())


def forgotten(rng: Random) -> Exchange:
    """Asks for something that was never told."""
    taken: set[str] = set()
    told = Told(rng, taken)
    messages = told.telling() if rng.random() < 0.6 else []
    while (other := Told(rng, taken)).attribute == "code":
        pass
    question = other.asking()[0]["content"]
    thought = f"The user has not told me {other.attribute_shown}."
    subject = f"your {other.animal}'s name" if other.animal else f"your {other.attribute}"
    if other.attribute == "city":
        subject = "where you live"
    if other.attribute == "friend":
        subject = "your friend's name"
    messages += [user(question), assistant(f"You have not told me {subject}.", thought)]
    return Exchange("not told", f"not told|{told.key}|{other.attribute}", messages, "not told me")
