"""How much is drafted, as whoever loads a model says it."""

import reprlib
from typing import Literal, TypeAlias

from qwen35_local.errors import InputError

MOST_DRAFTS = 8
"""Tokens that a pass verifies, at most: those that may be taken back."""

Drafts: TypeAlias = Literal["auto", "off"] | int
"""How many drafts a pass verifies: as many as pay, none, or always so many, up to MOST_DRAFTS."""

EXPECTED = f"auto, off, or 0 to {MOST_DRAFTS}"


def read_drafts(word: str) -> Drafts:
    """As a person types it. Raises InputError."""
    if word == "auto":
        return "auto"
    if word == "off":
        return "off"
    if word not in map(str, range(MOST_DRAFTS + 1)):
        raise InputError(f"{reprlib.repr(word)} is not {EXPECTED}")
    return int(word)


def most_drafts(drafts: Drafts) -> int:
    """What a model has to be loaded for: none, or as many as there may be, so that what was read with any number of
    drafts can be gone on from with any other. Raises InputError."""
    if drafts == "auto":
        return MOST_DRAFTS
    n = 0 if drafts == "off" else drafts
    if type(n) is not int or not 0 <= n <= MOST_DRAFTS:
        raise InputError(f"draft is {reprlib.repr(drafts)}; expected {EXPECTED}")
    return MOST_DRAFTS if n else 0
