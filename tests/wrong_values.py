"""A value of every type that GGUF metadata or JSON can hold, to be put where another type is expected."""

import math
from typing import Any

DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]

VALUES: list[Any] = [
    0,
    7,
    -1,
    2**31,
    2**64 - 1,
    1.5,
    -1e308,
    math.nan,
    math.inf,
    True,
    False,
    "",
    "text",
    "\x1b[31m\n",
    [],
    [0],
    [-1, 7],
    [1.5],
    [math.nan],
    [True],
    ["text"],
    ["", "a b"],
    [[1], ["text"]],
]

JSON_VALUES: list[Any] = [
    *(value for value in VALUES if "nan" not in repr(value) and "inf" not in repr(value)),
    None,
    {},
    {"a": 1},
    {"a": []},
]


def is_one_of(value: Any, accepted: list[Any]) -> bool:
    """Equality of value and type, so that True is not 1 and NaN is itself."""
    return repr(value) in map(repr, accepted)
