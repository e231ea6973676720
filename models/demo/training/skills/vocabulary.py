"""The words the skills are made of, and invented names that can only be copied, never remembered."""

from __future__ import annotations

from random import Random


def words(text: str) -> list[str]:
    """The blank-separated words of a table."""
    return text.split()


NAMES = words(
    """
    Ann Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul Quinn Rosa Sam Tina Umar Vera Will
    Xenia Yara Zoe Anna Boris Carla Dan Elena Frank Gina Hugo Iris Jonas Karin Lukas Maria Nils Otto Petra Ralf Sara
    Tom Ute Victor Wanda Yusuf Zara Ali Bella Chen Diego Eva Farid Greta Hans Ivan Julia Kofi Lena Marco Nina Omar
    Priya Raj Sofia Theo Uma Vikram Wei Amir Bruno Chloe Daisy Erik Fatima George Hannah Isaac Jane Kenji Lucy Max
    Nora Oscar Peter Ruth Simon Tara Alex Maya John Mary James Linda Robert Sarah Mike Laura
    """
)

COLOURS = words("red blue green yellow orange purple black white brown pink grey silver golden")

ANIMALS = words(
    """
    dog cat horse cow sheep goat pig duck hen mouse rabbit fox wolf bear lion tiger elephant monkey snake frog owl
    eagle crow bee ant spider whale shark dolphin turtle deer camel zebra
    """
)

THINGS = words(
    """
    apple pear plum lemon melon grape cherry banana carrot potato onion tomato bread cheese egg cake book pen paper
    lamp chair table door window key cup plate spoon fork knife bottle box bag coat hat shoe sock ring clock bell drum
    ball kite rope stone shell leaf flower tree candle mirror basket bucket ladder hammer nail wheel boat train car
    bus bicycle map coin letter stamp ticket piano guitar violin camera phone radio pillow blanket carpet brush soap
    towel
    """
)

_PLAIN_PLURAL = [thing for thing in THINGS if thing[-1] not in "yshxo"]
COUNTED = [thing + "s" for thing in _PLAIN_PLURAL if thing not in ("bread", "knife", "leaf", "paper")]

FOODS = words(
    """
    pizza pasta rice soup bread cheese salad apples bananas chocolate cake honey pancakes noodles cherries tomatoes
    potatoes carrots
    """
)

JOBS = words(
    """
    teacher doctor baker farmer pilot painter nurse gardener carpenter plumber writer singer driver cook tailor sailor
    lawyer dentist engineer librarian
    """
)

PLACES = words(
    """
    garden forest village market school river lake mountain island castle tower bridge station harbour library museum
    kitchen park beach farm valley cave mill
    """
)

CITIES = words(
    """
    Paris London Berlin Madrid Rome Vienna Oslo Athens Lisbon Dublin Prague Warsaw Cairo Tokyo Delhi Lima Bern Boston
    Chicago Denver Seattle Munich Hamburg Milan Naples Lyon Porto Krakow Osaka Kyoto Mumbai Sydney Toronto Dallas
    Geneva Venice Bristol Leeds Seville Zurich Stockholm Helsinki Brussels Budapest Nairobi Havana
    """
)

HOBBIES = words(
    """
    chess football tennis painting swimming reading dancing cooking fishing gardening singing running hiking sailing
    skiing knitting cycling
    """
)

VERBS = words("carried painted cleaned moved watched repaired counted opened closed washed found sold bought hid kept")

ADJECTIVES = words("old new small large quiet heavy light broken shiny dusty warm cold empty round plain strange")

MONTHS = words("January February March April May June July August September October November December")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

UNITS = words("zero one two three four five six seven eight nine ten eleven twelve")

_STARTS = words("b c d f g h j k l m n p r s t v w z br dr gr kr tr st sh ch")
_VOWELS = words("a e i o u ai ea oo")
_ENDS = ["", "", "n", "r", "s", "l", "m", "k", "t", "x"]


def invented(rng: Random, syllables: int = 2) -> str:
    """A pronounceable word that is in no list."""
    return "".join(rng.choice(_STARTS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_ENDS)


def person(rng: Random) -> str:
    """A name: usually a known one, often an invented one, so that names are copied and not guessed."""
    return rng.choice(NAMES) if rng.random() < 0.6 else invented(rng).capitalize()


def city(rng: Random) -> str:
    return rng.choice(CITIES) if rng.random() < 0.75 else invented(rng).capitalize()


def digits(rng: Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def code(rng: Random) -> str:
    """A code of four to six signs: digits, or letters and digits."""
    dice = rng.random()
    if dice < 0.6:
        return digits(rng, rng.randint(4, 6))
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    return f"{letters}-{digits(rng, rng.randint(2, 4))}" if dice < 0.8 else letters + digits(rng, rng.randint(2, 4))
