"""What a number of a model configuration may be, and typed reading of untrusted metadata within those bounds."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

from qwen35_local.errors import FormatError
from qwen35_local.fields import FLAG, Fields, Kind
from qwen35_local.fields import integer as an_integer
from qwen35_local.fields import number as a_number

# Wide enough for any plausible relative of the family, narrow enough that a product of two of them stays far below
# 64 bits and a layer loop stays short. The core has the same in csrc/model/config.cpp; a test compares them.
_INTEGERS = {
    "vocabulary": (1, 1 << 24),
    "hidden": (1, 1 << 20),
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
    "rope_sections": (0, 1024),
    "context_tokens": (1, 1 << 24),
    "mtp_layers": (0, 1),
    "eos_ids": (0, (1 << 24) - 1),
    "block_count": (1, 1024),
    "delta_inner_width": (1, 1 << 20),
}
_FLOATS = {
    "rms_eps": (1e-12, 0.1),
    "rope_theta": (2.0, 1e12),
    "partial_rotary_factor": (1e-3, 1.0),
    "factor": (1.0, 64.0),
    "beta": (1e-3, 1e6),
    "magnitude": (1e-3, 1e3),
}


INTEGERS: dict[str, Kind[int]] = {name: an_integer(*limits) for name, limits in _INTEGERS.items()}
FLOATS: dict[str, Kind[float]] = {name: a_number(*limits) for name, limits in _FLOATS.items()}
_WHERE = "model configuration: "


def refuse(name: str, value: object, expected: str) -> FormatError:
    """The one error of a configuration: which field, what it holds, what was expected."""
    found = "missing" if value is None else reprlib.repr(value)
    return FormatError(f"{_WHERE}{name} is {found}; expected {expected}.")


def check(bound: str, value: object, name: str | None = None) -> None:
    """Raises FormatError unless `value` is a number within INTEGERS[bound] or FLOATS[bound]."""
    kind: Kind[float] = INTEGERS.get(bound) or FLOATS[bound]
    if not kind.fits(value):
        raise refuse(name or bound, value, kind.expected)


class Source(Fields):
    """Untrusted metadata of a configuration; errors name the key with its prefix."""

    def __init__(self, values: Mapping[str, object], prefix: str = "") -> None:
        super().__init__(values, _WHERE + prefix)
        self.prefix = prefix

    def get(self, key: str) -> object:
        return self.values.get(key)

    def name(self, key: str) -> str:
        return self.prefix + key

    def integer(self, key: str, bound: str, default: int | None = None) -> int:
        kind = INTEGERS[bound]
        return int(self.need(key, kind) if default is None else self.find(key, kind, default))

    def number(self, key: str, bound: str, default: float | None = None) -> float:
        kind = FLOATS[bound]
        return float(self.need(key, kind) if default is None else self.find(key, kind, default))

    def integers(self, key: str, bound: str, longest: int) -> tuple[int, ...]:
        """One integer or a list of them."""
        one = INTEGERS[bound]
        expected = f"{one.expected}, or a list of at most {longest}"
        few: Kind[list[int]] = Kind(
            expected, lambda v: one.fits(v) or (type(v) is list and len(v) <= longest and all(map(one.fits, v)))
        )
        value = self.need(key, few)
        return tuple(map(int, value)) if isinstance(value, list) else (int(value),)

    def flag(self, key: str, default: bool) -> bool:
        return self.find(key, FLAG, default)

    def expect(self, key: str, *allowed: object) -> None:
        """Nothing, or one of the values that this runtime implements."""
        value = self.get(key)
        same = [value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed]
        if value is not None and not any(same):
            raise self.refuse(key, " or ".join(map(repr, allowed)) + "; other kinds are not supported")
