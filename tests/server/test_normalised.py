"""What clients send, brought into the form that the template knows, without a model."""

from typing import Any

import pytest

from qwen35_local.chat.messages import Message
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import BILLING, CONTINUATION, arguments, conversation, going_on
from qwen35_local.server.errors import Refused
from qwen35_local.server.limits import Limits
from qwen35_local.server.thinking import OFF, ON, Thinking


def read(*messages: dict[str, Any], limits: Limits = Limits()) -> list[Message]:  # noqa: B008
    return conversation(Body({"messages": list(messages)}), limits)


def said(*messages: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in read(*messages)]


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


def test_system_prompts() -> None:
    assert said(system("A"), system("B"), USER) == [("system", "A\n\nB"), ("user", "Hi")]
    assert said(USER, ANSWER, system("Be brief."), USER) == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Be brief."),
        ("user", "Hi"),
    ]


def test_the_line_that_counts_requests() -> None:
    line = f"{BILLING}: cc=1; cch=af3"
    assert said(system(line), USER) == [("user", "Hi")]
    assert said(system(f"{line}\n\nA"), USER) == said(system("A"), USER)
    assert said(system(f"A\n{line}"), USER) == [("system", f"A\n{line}"), ("user", "Hi")]


def test_where_no_user_asks_a_word_to_go_on_comes_first() -> None:
    assert said(system("A"), ANSWER) == [("system", "A"), ("user", CONTINUATION), ("assistant", "Hello")]


def called(*ids: str) -> dict[str, Any]:
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


def test_results_come_in_the_order_of_their_calls() -> None:
    both = [result("b", "2"), result("a", "1")]
    assert said(USER, called("a", "b"), *both)[2:] == [("tool", "1"), ("tool", "2")]
    assert said(USER, called("a", "c"), *both)[2:] == [("tool", "2"), ("tool", "1")], "one answers none of the calls"


def test_arguments_that_are_no_object() -> None:
    assert arguments('{"n": 1}') == {"n": 1}
    assert arguments(" ") == {}
    assert arguments('{"n": ') == {"raw": '{"n": '}
    assert arguments("[1]") == {"raw": "[1]"}


def test_a_reply_that_goes_on() -> None:
    plain, thought = Message("assistant", "So"), Message("assistant", "So", reasoning="Hm")
    for thinking in (OFF, Thinking(), Thinking(None, 9)):
        assert going_on([plain], thinking) == OFF
    for thinking in (OFF, ON, Thinking(True, 9)):
        assert going_on([thought], thinking) == thinking
    with pytest.raises(Refused, match="cannot think first"):
        going_on([plain], ON)
    for last in (Message("user", "Hi"), Message("tool", "1"), read(USER, called("a"))[-1]):
        with pytest.raises(Refused, match="only a last message of the assistant's that calls no tool"):
            going_on([plain, last], OFF)


def test_too_many_and_none() -> None:
    with pytest.raises(Refused, match=r"messages is a list of 3 entries .*; expected at most 2"):
        read(USER, USER, USER, limits=Limits(messages=2))
    with pytest.raises(Refused, match="messages is an empty list"):
        read()
