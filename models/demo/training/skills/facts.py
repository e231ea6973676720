"""A small book of facts. The facts are trained; a held-out prompt is a fact with a wording it was never asked in."""

from __future__ import annotations

from random import Random

from .core import Exchange, assistant, held_out, phrase, say, user
from .vocabulary import DAYS, MONTHS, invented, words


def _pairs(text: str) -> dict[str, str]:
    """A table of question=answer entries."""
    return dict(entry.strip().split("=") for entry in text.split(";"))


CAPITALS = _pairs(
    """
    France=Paris; Germany=Berlin; Italy=Rome; Spain=Madrid; Portugal=Lisbon; England=London; Ireland=Dublin;
    Norway=Oslo; Sweden=Stockholm; Finland=Helsinki; Denmark=Copenhagen; Poland=Warsaw; Austria=Vienna;
    Greece=Athens; Hungary=Budapest; Belgium=Brussels; Russia=Moscow; Turkey=Ankara; Egypt=Cairo; Kenya=Nairobi;
    Japan=Tokyo; China=Beijing; India=New Delhi; South Korea=Seoul; Thailand=Bangkok; Vietnam=Hanoi; Cuba=Havana;
    Canada=Ottawa; Mexico=Mexico City; Peru=Lima; Chile=Santiago; Argentina=Buenos Aires; Brazil=Brasilia;
    Australia=Canberra; Switzerland=Bern; the Netherlands=Amsterdam; Ukraine=Kyiv; Iceland=Reykjavik;
    the United States=Washington; Iran=Tehran; Iraq=Baghdad; Indonesia=Jakarta; Morocco=Rabat; Nigeria=Abuja;
    Ghana=Accra; Ethiopia=Addis Ababa; Nepal=Kathmandu; Colombia=Bogota; New Zealand=Wellington; Czechia=Prague
    """
)
_CONTINENTS = {
    "Europe": "France Germany Italy Spain Portugal Norway Sweden Poland Austria Greece Hungary Belgium Ireland Finland",
    "Asia": "Japan China India Thailand Vietnam Nepal Iran Iraq Indonesia",
    "Africa": "Egypt Kenya Morocco Nigeria Ghana Ethiopia",
    "South America": "Peru Chile Argentina Brazil Colombia",
    "North America": "Canada Mexico Cuba",
}
CONTINENTS = {country: name for name, countries in _CONTINENTS.items() for country in countries.split()}


OPPOSITES = _pairs(
    """
    hot=cold; big=small; tall=short; fast=slow; happy=sad; old=young; light=dark; up=down; left=right; open=closed;
    full=empty; wet=dry; hard=soft; rich=poor; early=late; day=night; high=low; good=bad; near=far; strong=weak;
    clean=dirty; first=last; loud=quiet; thick=thin; heavy=light; long=short; cheap=expensive; easy=difficult;
    true=false; black=white; yes=no; begin=end; win=lose
    """
)
YOUNG = _pairs(
    """
    dog=puppy; cat=kitten; cow=calf; horse=foal; sheep=lamb; pig=piglet; hen=chick; duck=duckling; goat=kid;
    bear=cub; frog=tadpole
    """
)
SOUNDS = _pairs(
    """
    dog=woof; cat=meow; cow=moo; sheep=baa; duck=quack; pig=oink; lion=roar; bee=buzz; owl=hoot; horse=neigh
    """
)
COLOURS = _pairs(
    """
    grass=green; snow=white; coal=black; blood=red; milk=white; lemons=yellow; bananas=yellow; carrots=orange;
    tomatoes=red; gold=golden
    """
)
LANGUAGES = _pairs(
    """
    France=French; Germany=German; Italy=Italian; Spain=Spanish; Portugal=Portuguese; Japan=Japanese; China=Chinese;
    Russia=Russian; Brazil=Portuguese; Mexico=Spanish; Greece=Greek; Poland=Polish; Sweden=Swedish; Egypt=Arabic;
    Austria=German
    """
)
MONTH_DAYS = dict(zip(MONTHS, words("31 28 31 30 31 30 31 31 30 31 30 31"), strict=True))
COUNTS = {
    "days are in a week": ("7", "A week has 7 days."),
    "months are in a year": ("12", "A year has 12 months."),
    "days are in a year": ("365", "A year has 365 days."),
    "hours are in a day": ("24", "A day has 24 hours."),
    "minutes are in an hour": ("60", "An hour has 60 minutes."),
    "seconds are in a minute": ("60", "A minute has 60 seconds."),
    "weeks are in a year": ("52", "A year has 52 weeks."),
    "legs does a spider have": ("8", "A spider has 8 legs."),
    "legs does a dog have": ("4", "A dog has 4 legs."),
    "legs does a bird have": ("2", "A bird has 2 legs."),
    "legs does an ant have": ("6", "An ant has 6 legs."),
    "letters are in the alphabet": ("26", "The English alphabet has 26 letters."),
    "planets are in the solar system": ("8", "The solar system has 8 planets."),
    "sides does a triangle have": ("3", "A triangle has 3 sides."),
    "sides does a square have": ("4", "A square has 4 sides."),
    "wheels does a car have": ("4", "A car has 4 wheels."),
    "fingers are on a hand": ("5", "A hand has 5 fingers."),
    "continents are there": ("7", "There are 7 continents."),
}
SINGLE = {
    "What is the largest planet": ("Jupiter", "The largest planet is Jupiter."),
    "What is the closest planet to the sun": ("Mercury", "The closest planet to the sun is Mercury."),
    "What planet do we live on": ("Earth", "We live on planet Earth."),
    "What is the largest ocean": ("Pacific", "The largest ocean is the Pacific."),
    "What is the highest mountain": ("Everest", "The highest mountain is Mount Everest."),
    "What is the fastest land animal": ("cheetah", "The fastest land animal is the cheetah."),
    "What is the largest animal": ("blue whale", "The largest animal is the blue whale."),
    "What do bees make": ("honey", "Bees make honey."),
    "What do cows give us": ("milk", "Cows give us milk."),
    "What is frozen water called": ("ice", "Frozen water is called ice."),
    "What is the first month of the year": ("January", "The first month of the year is January."),
    "What is the last month of the year": ("December", "The last month of the year is December."),
    "Who wrote Hamlet": ("Shakespeare", "Hamlet was written by Shakespeare."),
    "Who painted the Mona Lisa": ("Leonardo da Vinci", "The Mona Lisa was painted by Leonardo da Vinci."),
    "What is the colour of the sky": ("blue", "The sky is blue."),
    "What is the colour of the sun": ("yellow", "The sun looks yellow."),
    "At what temperature does water boil": ("100", "Water boils at 100 degrees Celsius."),
    "At what temperature does water freeze": ("0", "Water freezes at 0 degrees Celsius."),
    "What gas do we breathe": ("oxygen", "We breathe oxygen."),
    "What is H2O": ("water", "H2O is water."),
}

_CAPITAL = [
    "What is the capital of {x}?",
    "What's the capital of {x}?",
    "capital of {x}",
    "Which city is the capital of {x}?",
    "Tell me the capital of {x}.",
    "Name the capital of {x}.",
    "Do you know the capital of {x}?",
    "{x} capital?",
    "What is {x}'s capital?",
    "Please tell me what the capital of {x} is.",
]
_CAPITAL_OF = [
    "{x} is the capital of which country?",
    "Which country has {x} as its capital?",
    "{x} is the capital of what?",
    "What country is {x} the capital of?",
]
_CONTINENT = [
    "Which continent is {x} in?",
    "On which continent is {x}?",
    "What continent is {x} on?",
    "{x} is on which continent?",
]
_OPPOSITE = [
    "What is the opposite of {x}?",
    "opposite of {x}",
    "Tell me the opposite of {x}.",
    "What's the opposite of {x}?",
    "Give me the opposite of the word {x}.",
]
_YOUNG = [
    "What is a young {x} called?",
    "What do you call a baby {x}?",
    "What is a baby {x} called?",
    "A young {x} is called what?",
]
_SOUND = ["What sound does a {x} make?", "What does a {x} say?", "Which sound does the {x} make?"]
_COLOUR = ["What colour is {x}?", "What color is {x}?", "Which colour does {x} have?", "Tell me the colour of {x}."]
_LANGUAGE = [
    "What language is spoken in {x}?",
    "Which language do people speak in {x}?",
    "What do people speak in {x}?",
]
_AFTER = ["What comes after {x}?", "Which {k} comes after {x}?", "What {k} is after {x}?", "What is the {k} after {x}?"]
_BEFORE = [
    "What comes before {x}?",
    "Which {k} comes before {x}?",
    "What {k} is before {x}?",
    "What is the {k} before {x}?",
]
_MONTH = ["How many days are in {x}?", "How many days does {x} have?", "{x} has how many days?"]
_COUNT = [
    "How many {x}?",
    "Can you tell me how many {x}?",
    "Do you know how many {x}?",
    "Please tell me: how many {x}?",
]
_SINGLE = ["{x}?", "Can you tell me: {x}?", "{x}, please?", "Quick question: {x}?", "I wonder: {x}?"]


def _ask(
    rng: Random, kind: str, templates: list[str], x: str, thought: str, answer: str, expect: str, **more: str
) -> Exchange:
    """`proper` in `more` is x as it is written properly: a question in lower case is not another question."""
    index = rng.randrange(len(templates))
    question = phrase(rng, [templates[index]], x=x, **more)
    question = question[0].lower() + question[1:] if rng.random() < 0.15 else question[0].upper() + question[1:]
    return say("facts", f"{kind}|{more.get('proper', x)}|{index}", question, thought, answer, expect)


def capital(rng: Random) -> Exchange:
    country, city = rng.choice(list(CAPITALS.items()))
    if rng.random() < 0.25:
        return _ask(
            rng,
            "capital of",
            _CAPITAL_OF,
            city,
            f"{city}: that is {country}.",
            f"{city} is the capital of {country}.",
            country,
        )
    shown = country if rng.random() < 0.8 else country.lower()
    return _ask(
        rng,
        "capital",
        _CAPITAL,
        shown,
        f"{country}: the capital is {city}.",
        f"The capital of {country} is {city}.",
        city,
        proper=country,
    )


def neighbour(rng: Random) -> Exchange:
    kind, names = ("day", DAYS) if rng.random() < 0.45 else ("month", MONTHS)
    i = rng.randrange(len(names))
    after = rng.random() < 0.6
    other = names[(i + (1 if after else -1)) % len(names)]
    side = "after" if after else "before"
    return _ask(
        rng,
        side,
        _AFTER if after else _BEFORE,
        names[i],
        f"The {kind} {side} {names[i]} is {other}.",
        f"{other} comes {side} {names[i]}.",
        other,
        k=kind,
    )


def lookup(rng: Random) -> Exchange:
    kind = rng.randrange(7)
    if kind == 0:
        x, y = rng.choice(list(CONTINENTS.items()))
        return _ask(rng, "continent", _CONTINENT, x, f"{x} is in {y}.", f"{x} is in {y}.", y)
    if kind == 1:
        x, y = rng.choice(list(OPPOSITES.items()))
        return _ask(rng, "opposite", _OPPOSITE, x, f"{x} and {y} are opposites.", f"The opposite of {x} is {y}.", y)
    if kind == 2:
        x, y = rng.choice(list(YOUNG.items()))
        return _ask(rng, "young", _YOUNG, x, f"A young {x} is a {y}.", f"A young {x} is called a {y}.", y)
    if kind == 3:
        x, y = rng.choice(list(SOUNDS.items()))
        return _ask(rng, "sound", _SOUND, x, f"A {x} says {y}.", f"A {x} says {y}.", y)
    if kind == 4:
        x, y = rng.choice(list(COLOURS.items()))
        verb = "are" if x.endswith("s") and x != "grass" else "is"
        return _ask(rng, "colour", _COLOUR, x, f"{x.capitalize()} {verb} {y}.", f"{x.capitalize()} {verb} {y}.", y)
    if kind == 5:
        x, y = rng.choice(list(LANGUAGES.items()))
        return _ask(rng, "language", _LANGUAGE, x, f"In {x} people speak {y}.", f"In {x} people speak {y}.", y)
    x, y = rng.choice(list(MONTH_DAYS.items()))
    return _ask(rng, "month days", _MONTH, x, f"{x} has {y} days.", f"{x} has {y} days.", y)


def single(rng: Random) -> Exchange:
    if rng.random() < 0.5:
        x, (expect, answer) = rng.choice(list(COUNTS.items()))
        return _ask(rng, "count", _COUNT, x, answer, answer, expect)
    x, (expect, answer) = rng.choice(list(SINGLE.items()))
    index = rng.randrange(len(_SINGLE))
    shown = x if index == 0 else x[0].lower() + x[1:]
    question = phrase(rng, [_SINGLE[index]], x=shown)
    return say("facts", f"single|{x}|{index}", question, answer, answer, expect)


def unknown(rng: Random) -> Exchange:
    """A place that does not exist: the honest answer is that the model does not know it."""
    name = invented(rng, rng.randint(2, 3)).capitalize()
    return say(
        "unknown",
        name,
        phrase(rng, _CAPITAL, x=name),
        f"I do not know {name}.",
        f"I do not know the capital of {name}.",
        "do not know",
    )


def yes_no(rng: Random) -> Exchange:
    """Is this city the capital of that country?"""
    country, right = rng.choice(list(CAPITALS.items()))
    asked = right if rng.random() < 0.5 else rng.choice(list(CAPITALS.values()))
    question = phrase(
        rng,
        ["Is {y} the capital of {x}?", "Is the capital of {x} {y}?", "Is it true that {y} is the capital of {x}?"],
        x=country,
        y=asked,
    )
    answer = f"{'Yes' if asked == right else 'No'}, the capital of {country} is {right}."
    return say("yes or no", f"{country}|{asked}", question, f"The capital of {country} is {right}.", answer)


def follow_up(rng: Random) -> Exchange:
    """A capital, then only the name of another country."""
    first = capital(rng)
    country, city = rng.choice(list(CAPITALS.items()))
    question = phrase(rng, ["And {x}?", "And of {x}?", "What about {x}?", "and {x}", "How about {x}?"], x=country)
    answer = assistant(f"The capital of {country} is {city}.", f"{country}: the capital is {city}.")
    same = country in first.messages[1]["content"]
    if held_out(first.key) or same or "capital of" not in first.messages[0]["content"].lower():
        return follow_up(rng)
    return Exchange("follow-up", f"follow|{first.key}|{country}", [*first.messages, user(question), answer], city)


def facts(rng: Random) -> Exchange:
    """Any fact, capitals most often."""
    return rng.choices([capital, neighbour, lookup, single], [5, 2, 5, 3])[0](rng)
