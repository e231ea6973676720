"""What a person is told about the end of a reply."""

import pytest

from qwen35_local.chat.messages import Message
from qwen35_local.cli.endings import advising, explanation
from qwen35_local.engine.reply import ContextFull, Done, Usage
from qwen35_local.errors import InputError


def test_nobody_is_advised_what_is_on() -> None:
    full = "the context is full; /clear, or start again with a larger --ctx"
    done = Done("context", Message("assistant"), Usage())
    assert explanation(done, "stop") == f"{full} or --when-full compact"
    assert explanation(done, "compact") == full
    assert explanation(Done("length", Message("assistant"), Usage()), "stop") == "the reply reached its token limit"


def test_a_conversation_that_does_not_fit_says_what_to_type() -> None:
    with pytest.raises(InputError) as caught, advising("stop"):
        raise ContextFull(300, 64)
    lengths = "the prompt is 300 tokens and the context 64"
    assert str(caught.value) == f"{lengths}; /clear, or start again with a larger --ctx or --when-full compact"
