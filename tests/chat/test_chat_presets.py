import math
from typing import Any

import pytest

from qwen35_local.chat.family import VARIANTS
from qwen35_local.chat.presets import MODES, PRESETS, Sampling, preset
from qwen35_local.errors import InputError


def test_every_version_has_every_mode() -> None:
    assert PRESETS.keys() == VARIANTS.keys()
    for modes in PRESETS.values():
        assert set(modes) == set(MODES)


def test_values_of_the_cards() -> None:
    assert preset("qwen3.5", "thinking") == Sampling(1.0, 20, 0.95, 0.0, 1.0, 1.5)
    assert preset("qwen3.5", "instruct") == Sampling(0.7, 20, 0.8, presence_penalty=1.5)
    assert preset("qwen3.8", "thinking").presence_penalty == 0.0
    assert preset("jinja", "thinking-coding") == preset("qwen3.5", "thinking-coding")
    with pytest.raises(InputError, match="instruct-reasoning"):
        preset("qwen3.5", "wild")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in Sampling.__slots__ if name != "logit_bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -(2**63), 10**400, "5", True, [], {}, -1e9])
def test_numbers_are_checked(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        Sampling(**{name: value})
