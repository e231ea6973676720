"""What a number of a model configuration may be, and typed reading of untrusted metadata within those bounds."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from qwen35_local.errors import FileFormatError

# Wide enough for any plausible relative of the family, narrow enough that a product of two of them stays far below
# 64 bits and a layer loop stays short.
INTEGERS: dict[str, tuple[int, int]] = {
    "vocabulary": (1, 1 << 24),
    "hidden": (1, 1 << 17),
    "layers": (1, 1024),
    "heads": (1, 1024),
    "kv_heads": (1, 1024),
    "head_width": (2, 1024),
    "delta_key_heads": (1, 1024),
    "delta_value_heads": (1, 1024),
    "delta_key_width": (1, 1024),
    "delta_value_width": (1, 1024),
    "conv_taps": (2, 16),
    "feed_forward": (0, 1 << 20),
    "experts": (0, 4096),
    "experts_per_token": (0, 4096),
    "expert_feed_forward": (0, 1 << 20),
    "shared_expert_feed_forward": (0, 1 << 20),
    "full_attention_interval": (1, 1024),
    "rope_width": (2, 1024),
    "rope_sections": (0, 512),
    "context_tokens": (1, (1 << 31) - 1),
    "mtp_layers": (0, 1),
    "eos_ids": (0, (1 << 24) - 1),
    "block_count": (1, 1025),
    "delta_inner_width": (1, 1 << 20),
}
FLOATS: dict[str, tuple[float, float]] = {
    "rms_eps": (1e-12, 0.1),
    "rope_theta": (1.5, 1e12),
    "partial_rotary_factor": (1e-3, 1.0),
    "factor": (1.0, 1024.0),
    "beta": (1e-3, 1e6),
    "magnitude": (1e-3, 1e3),
}


def refuse(name: str, value: object, expected: str) -> FileFormatError:
    """The one error of a configuration: which field, what it holds, what was expected."""
    return FileFormatError(f"model configuration: {name} is {reprlib.repr(value)}; expected {expected}")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether `value` is a Python or numpy integer and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def integer(bound: str, value: object, name: str | None = None) -> int:
    """`value` as an int within INTEGERS[bound]; `name` is what the source calls the field."""
    low, high = INTEGERS[bound]
    if not is_integer(value) or not low <= value <= high:
        raise refuse(name or bound, value, f"an integer from {low} to {high}")
    return int(value)


def number(bound: str, value: object, name: str | None = None) -> float:
    """`value` as a finite float within FLOATS[bound]."""
    low, high = FLOATS[bound]
    if not (is_integer(value) or isinstance(value, float | np.floating)) or not low <= value <= high:
        raise refuse(name or bound, value, f"a number from {low:g} to {high:g}")
    return float(value)


def sequence(value: object, name: str, longest: int) -> list[object]:
    """`value` as a list of at most `longest` entries; numpy arrays become lists of numpy scalars."""
    if not isinstance(value, list | tuple | np.ndarray) or np.ndim(np.empty(len(value))) != 1 or len(value) > longest:
        raise refuse(name, value, f"a list of at most {longest} entries")
    return list(value)


class Source:
    """Untrusted metadata: every read is checked, a null counts as absent, and errors name the key with its prefix."""

    def __init__(self, values: Mapping[str, object], prefix: str = "") -> None:
        self.values = values
        self.prefix = prefix

    def get(self, key: str) -> object:
        return self.values.get(key)

    def name(self, key: str) -> str:
        return self.prefix + key

    def integer(self, key: str, bound: str, default: int | None = None) -> int:
        return integer(bound, self._value(key, default), self.name(key))

    def number(self, key: str, bound: str, default: float | None = None) -> float:
        return number(bound, self._value(key, default), self.name(key))

    def integers(self, key: str, bound: str, longest: int) -> tuple[int, ...]:
        """One integer or a list of them."""
        value = self._value(key, None)
        if is_integer(value):
            return (integer(bound, value, self.name(key)),)
        return tuple(integer(bound, entry, self.name(key)) for entry in sequence(value, self.name(key), longest))

    def flag(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool | np.bool_):
            raise refuse(self.name(key), value, "true or false")
        return bool(value)

    def expect(self, key: str, *allowed: object) -> None:
        """Nothing, or one of the values that this runtime implements."""
        value = self.get(key)
        same = [value == a and ((is_integer(value) and is_integer(a)) or type(value) is type(a)) for a in allowed]
        if value is not None and not any(same):
            raise refuse(self.name(key), value, " or ".join(map(repr, allowed)) + "; other kinds are not supported")

    def _value(self, key: str, default: object) -> object:
        value = self.get(key)
        if value is None:
            value = default
        if value is None:
            raise refuse(self.name(key), None, "a value; the field is missing")
        return value
