from typing import Any

import pytest
from wrong_values import DEEP

from qwen35_local.chat.messages import Media, Message, ToolCall, read_messages
from qwen35_local.errors import InputError


def test_openai_messages() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, null]}'}}
    read = read_messages(
        [
            {"role": "developer", "content": "be kind"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call], "refusal": None},
            {"role": "tool", "tool_call_id": "c1", "content": "x", "name": "f"},
        ]
    )
    assert [message.role for message in read] == ["system", "user", "assistant", "tool"]
    assert read[1].parts == ("look", Media("image", "u")) and read[1].text == "look"
    assert read[2] == Message("assistant", "", "hm", (ToolCall("f", {"a": [1, None]}, "c1"),))
    assert (read[3].tool_call_id, read[3].name) == ("c1", "f")
    assert read_messages(read) == read


@pytest.mark.parametrize("arguments", ["", "  ", None, {}, "{}"])
def test_no_arguments(arguments: Any) -> None:
    assert ToolCall.from_dict({"name": "f", "arguments": arguments}).arguments == {}


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("hello", r"messages\[0\]: expected an object"),
        ({"content": "x"}, r"messages\[0\].role: .* got None"),
        ({"role": "robot"}, "system, user, assistant, tool"),
        ({"role": ["user"]}, "role"),
        ({"role": "user", "content": 5}, r"messages\[0\].content"),
        ({"role": "user", "content": [{"type": "audio"}]}, r"content\[0\]"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, r"content\[0\]"),
        ({"role": "user", "tool_calls": [{"name": "f"}]}, "only an assistant"),
        ({"role": "assistant", "tool_calls": "f"}, "tool_calls: expected a list"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, r"tool_calls\[0\].*name"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{bad"}]}, r"tool_calls\[0\] \(f\).arguments"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}, "JSON object"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": {1}}}]}, "plain JSON"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[" * 100000}]}, "JSON object"),
        (
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": DEEP}}]},
            r"\(f\).arguments: .* 100 levels",
        ),
        ({"role": DEEP}, r"role: .* got \[\[\["),
        (DEEP, r"messages\[0\]: expected an object, got \[\[\["),
        ({"role": "user", "content": [DEEP]}, r"content\[0\]: expected an object, got \[\[\["),
        ({"role": "assistant", "reasoning_content": 5}, "reasoning_content"),
        ({"role": "system", "content": [{"type": "image"}]}, "text only"),
    ],
)
def test_faults_are_named(message: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read_messages([message])


def test_the_arguments_of_a_call_are_plain_values() -> None:
    for arguments, fault in (({"a": DEEP}, "nested too deeply"), ({"a": {1}}, "not JSON serializable")):
        with pytest.raises(InputError, match=f"^arguments: expected plain JSON values: .*{fault}"):
            ToolCall("f", arguments)
