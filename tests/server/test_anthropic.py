"""Anthropic's Messages API: what its own client makes of the answers."""

import asyncio
import json
from typing import Any

import pytest
from anthropic_requests import ASKED, CALL, DIRECT, WEATHER
from serving import Served

anthropic = pytest.importorskip("anthropic", reason="needs the [clients] extra: anthropic is missing")

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def client(server: Served) -> Any:
    with anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client:
        yield client


def test_a_message_thinks_and_answers(client: Any) -> None:
    message = client.messages.create(**ASKED)
    thought, answer = message.content
    assert (thought.type, answer.type) == ("thinking", "text")
    assert thought.thinking
    assert thought.signature
    assert "Rome" in answer.text
    assert (message.stop_reason, message.stop_sequence, message.role) == ("end_turn", None, "assistant")
    assert message.model == ASKED["model"]
    usage = message.usage
    assert usage.output_tokens > usage.output_tokens_details.thinking_tokens > 0
    count = client.messages.count_tokens(model="any", messages=ASKED["messages"]).input_tokens
    assert usage.input_tokens + usage.cache_read_input_tokens == count > 10


def test_a_stream_adds_up_to_the_message(client: Any) -> None:
    whole = client.messages.create(**ASKED)
    with client.messages.stream(**ASKED) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert {"content_block_start", "content_block_delta", "content_block_stop", "message_delta"} <= set(kinds)


def test_the_asynchronous_client(server: Served, client: Any) -> None:
    async def ask() -> tuple[Any, str]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="any", max_retries=0) as other:
            message = await other.messages.create(**DIRECT)
            async with other.messages.stream(**DIRECT) as stream:
                return message, "".join([text async for text in stream.text_stream])

    message, streamed = asyncio.run(ask())
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == streamed == client.messages.create(**DIRECT).content[0].text


def test_a_tool_is_called_and_its_result_is_read(client: Any) -> None:
    first = client.messages.create(**CALL)
    assert first.stop_reason == "tool_use"
    use = first.content[-1]
    assert (use.type, use.name, use.input) == ("tool_use", "get_weather", {"city": "Rome"})
    assert use.id.startswith("toolu_")
    result = {
        "type": "tool_result",
        "tool_use_id": use.id,
        "content": [{"type": "text", "text": json.dumps({"sky": "sunny", "temperature": 21})}],
    }
    turns = [*CALL["messages"], {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(**CALL | {"messages": turns})
    text = "".join(block.text for block in second.content if block.type == "text")
    assert "sunny" in text
    assert second.usage.cache_read_input_tokens >= first.usage.input_tokens + first.usage.cache_read_input_tokens - 4


def test_a_call_is_streamed_as_json(client: Any) -> None:
    with client.messages.stream(**CALL) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        message = stream.get_final_message()
    assert json.loads("".join(pieces)) == message.content[-1].input == {"city": "Rome"}
    assert message.stop_reason == "tool_use"


def test_a_stop_sequence_is_told(client: Any) -> None:
    message = client.messages.create(**DIRECT, stop_sequences=["Zebra", "Rome"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Rome")
    assert "Rome" not in message.content[0].text


def test_too_few_tokens(client: Any) -> None:
    message = client.messages.create(**DIRECT | {"max_tokens": 2})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)


def test_thinking_that_is_not_to_be_shown_has_its_signature_alone(client: Any) -> None:
    asked = ASKED | {"thinking": {"type": "adaptive", "display": "omitted"}}
    shown = client.messages.create(**ASKED).content[0]
    whole = client.messages.create(**asked).content[0]
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message().content[0]
    for block in (whole, streamed):
        assert (block.type, block.thinking, block.signature) == ("thinking", "", shown.signature)


@pytest.mark.parametrize(
    ("thinking", "thinks"),
    [
        ({"type": "disabled"}, False),
        ({"type": "adaptive"}, True),
        ({"type": "enabled", "budget_tokens": 1024}, True),
    ],
)
def test_thinking_is_switched(client: Any, thinking: dict[str, Any], thinks: bool) -> None:
    kinds = [block.type for block in client.messages.create(**ASKED | {"thinking": thinking}).content]
    assert kinds == ["thinking", "text"][not thinks :]


def test_a_conversation_that_goes_on_is_not_read_again(client: Any) -> None:
    said: list[Any] = [{"role": "user", "content": "Hello! My name is Ann."}]
    first = client.messages.create(**ASKED | {"messages": said})
    read = first.usage.input_tokens + first.usage.cache_read_input_tokens
    said += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
    ]
    second = client.messages.create(**ASKED | {"messages": said})
    assert "Ann" in second.content[-1].text
    assert second.usage.cache_read_input_tokens >= read - 4
    assert second.usage.input_tokens < 40


def test_the_billing_line_does_not_defeat_the_cache(client: Any) -> None:
    def asked(digits: str) -> Any:
        system = [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.36; cch={digits};"},
            {"type": "text", "text": "You answer shortly.", "cache_control": {"type": "ephemeral"}},
        ]
        return client.messages.create(**DIRECT, system=system)

    first, second = asked("a1b2c"), asked("fffff")
    assert second.usage.input_tokens == 0
    assert second.content == first.content


def test_system_is_a_text_or_blocks(client: Any) -> None:
    def count(system: Any) -> int:
        tokens = client.messages.count_tokens(model="any", messages=ASKED["messages"], system=system).input_tokens
        assert isinstance(tokens, int)
        return tokens

    text, line = "You answer shortly.", "x-anthropic-billing-header: cch=0;"
    whole = count(text)
    assert whole == count([{"type": "text", "text": text}]) > count([])
    assert whole == count(f"{line}\n\n{text}") == count([{"type": "text", "text": f"{line}\n{text}"}])
    assert count(line) == count([])


def test_thinking_is_closed_after_its_budget(client: Any) -> None:
    long = {"messages": [{"role": "user", "content": "What is 48 + 37?"}], "max_tokens": 1000}
    free = client.messages.create(**ASKED | long)
    held = client.messages.create(**ASKED | long | {"thinking": {"type": "enabled", "budget_tokens": 8}})
    spent = [message.usage.output_tokens_details.thinking_tokens for message in (free, held)]
    assert spent[0] > 50 > spent[1] >= 8
    assert [block.type for block in held.content] == ["thinking", "text"]


def test_an_answer_of_a_given_form(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    said = [{"role": "user", "content": "Ann is 31 years old. Who is it?"}]
    form = {"format": {"type": "json_schema", "schema": schema}}
    for asked in (ASKED, DIRECT):
        message = client.messages.create(**asked | {"messages": said, "output_config": form})
        found = json.loads(message.content[-1].text)
        assert set(found) == {"name", "age"}
        assert type(found["age"]) is int


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
@pytest.mark.parametrize("asked", [ASKED, DIRECT], ids=["thinking", "direct"])
def test_a_call_can_be_required(client: Any, choice: dict[str, Any], asked: dict[str, Any]) -> None:
    said = [{"role": "user", "content": "Hello! My name is Ann."}]
    message = client.messages.create(**asked | {"messages": said, "tools": [WEATHER], "tool_choice": choice})
    uses = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert uses
    assert {(use.name, *use.input) for use in uses} == {("get_weather", "city")}


def test_no_call_and_one_call(client: Any) -> None:
    none = client.messages.create(**CALL, tool_choice={"type": "none"})
    assert "tool_use" not in [block.type for block in none.content]
    one = client.messages.create(**CALL, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert [block.type for block in one.content].count("tool_use") == 1


def test_the_beta_client_and_the_list_of_models(client: Any) -> None:
    message = client.beta.messages.create(**DIRECT, betas=["interleaved-thinking-2025-05-14"])
    assert "Rome" in message.content[0].text
    (model,) = client.models.list()
    assert (model.id, model.type, model.display_name) == ("demo", "model", "demo")
    assert client.models.retrieve("demo").created_at == model.created_at


def test_errors_are_of_the_types_that_the_client_knows(server: Served, client: Any) -> None:
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(**ASKED | {"extra_body": {"temperature": "warm"}})
    assert bad.value.type == "invalid_request_error"
    assert "temperature" in str(bad.value)
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 4096 maximum"):
        client.messages.create(**ASKED | {"messages": [{"role": "user", "content": "word " * 9000}]})
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.list()


def test_a_call_that_is_cut_is_the_last_block(client: Any) -> None:
    """As the API documents it for max_tokens; the client reads what there is of the input."""
    asked = CALL | {"thinking": {"type": "disabled"}, "tool_choice": {"type": "any"}}
    whole = client.messages.create(**asked).usage.output_tokens
    for max_tokens in range(whole - 6, whole - 3):
        with client.messages.stream(**asked | {"max_tokens": max_tokens}) as stream:
            message = stream.get_final_message()
        assert message.stop_reason == "max_tokens" and len(message.content) == 1
        if message.content[0].type == "tool_use":
            assert "Rome".startswith(message.content[0].input.get("city", "").strip())


def test_an_answer_that_was_begun(client: Any) -> None:
    begun = [*ASKED["messages"], {"role": "assistant", "content": "The capital of"}]
    with client.messages.stream(**ASKED | {"messages": begun}) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["text"]
    assert "Rome" in message.content[0].text and not message.content[0].text.startswith("The")
