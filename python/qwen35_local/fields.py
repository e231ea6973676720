"""Typed reading of values from outside, by key: JSON objects and GGUF metadata. Each value is checked once, here."""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Generic, TypeVar, overload

from qwen35_local.errors import FormatError, InputError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """What a value must be. `expected` says so in an error; `fits` decides."""

    expected: str
    fits: Callable[[Any], bool]


def _is_integer(value: object) -> bool:
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def integer(low: int, high: int) -> Kind[int]:
    """A whole number, Python's or numpy's, and no bool."""
    expected = str(low) if low == high else f"an integer from {low} to {high}"
    return Kind(expected, lambda v: _is_integer(v) and low <= v <= high)


def number(low: float = -math.inf, high: float = math.inf) -> Kind[float]:
    """A finite number, and no bool."""

    def fits(value: Any) -> bool:
        is_number = type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))
        return is_number and low <= value <= high and math.isfinite(value)

    within = "" if (low, high) == (-math.inf, math.inf) else f" from {low:.15g} to {high:.15g}"
    return Kind(f"a finite number{within}", fits)


def list_of(entry: Kind[T], length: int | None = None, *, of: str = "") -> Kind[list[T]]:
    """A list, of `length` entries if that is given; `of` says why that many."""
    size = "" if length is None else f" of {length} entries{of}"
    return Kind(
        f"a list{size}, each {entry.expected}",
        lambda v: type(v) is list and (length is None or len(v) == length) and all(map(entry.fits, v)),
    )


def object_of(entry: Kind[T]) -> Kind[dict[str, T]]:
    """An object, its values all of one kind."""
    return Kind(
        f"an object, each value {entry.expected}", lambda v: type(v) is dict and all(map(entry.fits, v.values()))
    )


TEXT: Kind[str] = Kind("a text", lambda v: type(v) is str)
FLAG: Kind[bool] = Kind("true or false", lambda v: type(v) is bool)
TEXTS = list_of(TEXT)
OBJECT: Kind[dict[str, object]] = Kind("an object", lambda v: type(v) is dict)
OBJECTS = list_of(OBJECT)
ANY_LIST: Kind[list[Any]] = Kind("a list", lambda v: type(v) is list)


def from_word(word: str, kind: Kind[T]) -> T:
    """A number as a person types it. Raises InputError."""
    for read in (int, float):
        try:
            value: Any = read(word)
        except ValueError:
            continue
        if kind.fits(value):
            return value  # type: ignore[no-any-return]
    raise InputError(f"{reprlib.repr(word)} is not {kind.expected}")


class Fields:
    """Untrusted values by key. A null counts as absent; an error begins with `where` and names the key, what it holds
    and what was expected."""

    def __init__(self, values: Mapping[str, object], where: str = "") -> None:
        self.values = values
        self.where = where

    @overload
    def find(self, key: str, kind: Kind[T]) -> T | None: ...
    @overload
    def find(self, key: str, kind: Kind[T], default: T) -> T: ...
    def find(self, key: str, kind: Kind[T], default: T | None = None) -> T | None:
        """The value, or `default` where there is none. Raises FormatError when it is of another kind."""
        value: Any = self.values.get(key)
        if value is not None and not kind.fits(value):
            raise self.refuse(key, kind.expected)
        return default if value is None else value

    def need(self, key: str, kind: Kind[T]) -> T:
        """The value. Raises FormatError when there is none, or it is of another kind."""
        value = self.find(key, kind)
        if value is None:
            raise self.refuse(key, kind.expected)
        return value

    def refuse(self, key: str, expected: str) -> FormatError:
        """The error for what `key` holds."""
        value = self.values.get(key)
        found = "missing" if value is None else describe(value)
        return FormatError(f"{self.where}{key} is {found}; expected {expected}.")


def describe(value: object) -> str:
    """What a value from outside is, short enough for a line."""
    if value is None:
        return "null"
    if isinstance(value, list):
        kinds = sorted({type(entry).__name__ for entry in value})
        return f"a list of {len(value)} entries ({', '.join(kinds[:4])})" if value else "an empty list"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return reprlib.repr(value)
