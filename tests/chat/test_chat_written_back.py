"""What a template writes of a turn, the parser reads back."""

import json

import pytest
from goldens import CASES
from hypothesis import given
from hypothesis import strategies as st
from outputs import parse_output

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDone
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.chat.template import Template

LOOK = {"type": "object", "properties": {"city": {"type": "string"}, "text": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": LOOK}}]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["messages"]])
def test_what_the_template_writes_is_read_back(name: str) -> None:
    """Assistant turns of the golden conversations: rendered, parsed, compared."""
    tools = [{"name": "search"}, {"name": "get_weather"}]
    for message in CASES[name]["messages"]:
        if message["role"] != "assistant" or "</think>" in (message["content"] or ""):
            continue
        wanted = Message.from_dict(message)
        if wanted.role == "assistant" and "<" in (wanted.reasoning or ""):
            continue
        prompt = Template.for_variant("qwen3.6").render(
            [{"role": "user", "content": "q"}, message], add_generation_prompt=False
        )
        written = prompt.turns[-1].text.removeprefix("<|im_start|>assistant\n<think>\n").removesuffix("<|im_end|>\n")
        events = parse_output(written, tools, in_reasoning=True)
        reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        assert reasoning == (wanted.reasoning or "").strip() and text == wanted.text.strip()
        as_text = [
            ToolCall(
                call.name,
                {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in call.arguments.items()},
            )
            for call in wanted.tool_calls
        ]
        assert [event.call for event in events if isinstance(event, ToolCallDone)] == as_text


argument_texts = st.text("\r\n <a") | st.text(max_size=20)


@pytest.mark.parametrize("variant", ["qwen3.5", "qwen3.8"])
@given(texts=st.dictionaries(st.sampled_from(["text", "city", "plain"]), argument_texts, min_size=1))
def test_every_string_given_to_a_tool_is_read_back(variant: str, texts: dict[str, str]) -> None:
    call = {"name": "look", "arguments": texts}
    written = Template.for_variant(variant).render(
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}],
        add_generation_prompt=False,
    )
    done = parse_output(written.turns[-1].text.partition("</think>")[2].removesuffix("<|im_end|>\n"), TOOLS)[-1]
    assert isinstance(done, ToolCallDone) and done.call == ToolCall("look", texts)
