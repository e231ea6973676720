"""What an engine reads from a file's metadata besides its tokenizer and template, with a value of each type."""

from typing import Any

import pytest
from wrong_values import VALUES, is_one_of

from qwen35_local import _core
from qwen35_local.engine.engine import Engine
from qwen35_local.errors import FormatError
from qwen35_local.text.tokenizer import Tokenizer

TEXTS = ["", "text", "\x1b[31m\n"]


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("general.name", TEXTS),
        ("general.sampling.temp", [0, 7, 1.5]),
        ("general.sampling.top_k", [0, 7]),
        ("general.sampling.top_p", [0]),
        ("general.sampling.min_p", [0]),
    ],
)
def test_each_key_with_each_type(key: str, accepted: list[Any], demo: _core.Model) -> None:
    metadata = demo.metadata | {"tokenizer.chat_template": None}  # the family's is at hand
    tokenizer = Tokenizer(metadata)
    for value in VALUES:
        changed = metadata | {key: value}
        if is_one_of(value, accepted):
            assert Engine(demo, metadata=changed, tokenizer=tokenizer).name
        else:
            with pytest.raises(FormatError, match=f"^{key} is .*; expected "):
                Engine(demo, metadata=changed, tokenizer=tokenizer)
