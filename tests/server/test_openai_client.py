"""OpenAI's own Python client against the server: what it is given, it reads as its types."""

import asyncio
import json
from typing import Any

import pytest
from serving import Served

openai = pytest.importorskip("openai", reason="needs the [clients] extra: openai is missing")

pytestmark = pytest.mark.clients

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASK: dict[str, Any] = {"model": "demo", "temperature": 0, "seed": 1}
SUM = [{"role": "user", "content": "What is 12 + 30?"}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def client(server: Served) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


def test_models(client: Any) -> None:
    (model,) = client.models.list().data
    assert model.id == "demo"
    assert client.models.retrieve("demo").id == "demo"
    assert model.meta["n_ctx"] == 4096
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("other")
    assert refused.value.param == "model"


def test_chat(client: Any) -> None:
    answer = client.chat.completions.create(messages=SUM, **ASK)
    choice = answer.choices[0]
    assert "42" in choice.message.content
    assert choice.message.reasoning_content == choice.message.reasoning
    assert choice.finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert answer.system_fingerprint.startswith("fp_")
    again = client.chat.completions.create(messages=SUM, **ASK)
    assert again.choices[0].message == choice.message
    assert again.usage.prompt_tokens_details.cached_tokens > 0


def test_chat_streams(client: Any) -> None:
    whole = client.chat.completions.create(messages=SUM, **ASK).choices[0].message
    *chunks, last = client.chat.completions.create(
        messages=SUM, stream=True, stream_options={"include_usage": True}, **ASK
    )
    assert not last.choices
    assert last.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({chunk.id for chunk in (*chunks, last)}) == 1


def test_without_thinking(client: Any) -> None:
    for extra in (
        {"reasoning_effort": "none"},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
        {"extra_body": {"enable_thinking": False}},
        {"extra_body": {"reasoning": {"enabled": False}}},
        {"extra_body": {"thinking": {"type": "disabled"}}},
        {"extra_body": {"thinking_budget": 0}},
    ):
        answer = client.chat.completions.create(messages=SUM, **ASK, **extra)
        assert answer.usage.completion_tokens_details.reasoning_tokens == 0, extra
        assert getattr(answer.choices[0].message, "reasoning", None) is None


def test_tool_call_and_its_result(client: Any) -> None:
    answer = client.chat.completions.create(messages=WEATHER, tools=[TOOL], **ASK)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "sunny"}'}
    after = client.chat.completions.create(
        messages=[*WEATHER, choice.message.model_dump(exclude_none=True), result], tools=[TOOL], **ASK
    )
    assert after.choices[0].message.content
    # Nothing of the first prompt and its reply is read again but the last token.
    assert after.usage.prompt_tokens_details.cached_tokens >= answer.usage.total_tokens - 8


def test_tool_call_streams(client: Any) -> None:
    whole = client.chat.completions.create(messages=WEATHER, tools=[TOOL], **ASK).choices[0].message.tool_calls[0]
    chunks = list(client.chat.completions.create(messages=WEATHER, tools=[TOOL], stream=True, **ASK))
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert pieces[0].function.name == whole.function.name
    assert pieces[0].id
    assert all(piece.index == 0 for piece in pieces)
    assert "".join(piece.function.arguments for piece in pieces) == whole.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_custom_tool(client: Any) -> None:
    tool = {"type": "custom", "custom": {"name": "get_weather", "description": "Get the weather in a city."}}
    answer = client.chat.completions.create(messages=WEATHER, tools=[tool], **ASK)
    calls = answer.choices[0].message.tool_calls
    if calls:
        assert calls[0].type == "custom"
        assert isinstance(calls[0].custom.input, str)


@pytest.mark.parametrize(
    ("syntax", "definition"),
    [("lark", 'start: "Rome" | "Par" ending\nending: "is" | "ma"\n'), ("regex", "(Rome|Parma)")],
)
def test_custom_tool_with_a_grammar(client: Any, syntax: str, definition: str) -> None:
    """The question is of another city."""
    name = {"name": "get_weather", "description": "Get the weather in a city."}
    asked = [{"role": "user", "content": "What is the weather in Oslo?"}]
    grammar = {"syntax": syntax, "definition": definition}
    tool = {"type": "custom", "custom": name | {"format": {"type": "grammar", "grammar": grammar}}}
    choice = {"type": "custom", "custom": {"name": "get_weather"}}
    answer = client.chat.completions.create(messages=asked, tools=[tool], tool_choice=choice, **ASK)
    (call,) = answer.choices[0].message.tool_calls
    assert call.custom.input in ("Rome", "Paris", "Parma")
    tool = {"type": "custom", **name, "format": {"type": "grammar", **grammar}}
    ask = {"model": "demo", "input": asked, "tools": [tool], "tool_choice": {"type": "custom", "name": "get_weather"}}
    item = client.responses.create(temperature=0, **ask).output[-1]
    assert (item.type, item.input) == ("custom_tool_call", call.custom.input)


def test_answer_of_a_given_form(client: Any) -> None:
    pydantic = pytest.importorskip("pydantic")  # comes with the client
    person = pydantic.create_model("Person", name=str, age=int)
    said = [{"role": "user", "content": "Ann is 31 years old. Who is it?"}]
    for extra in ({}, {"reasoning_effort": "none"}):
        ask = ASK | {"messages": said, "response_format": person, **extra}
        parsed = client.chat.completions.parse(**ask).choices[0].message.parsed
        assert isinstance(parsed, person)
        with client.chat.completions.stream(**ask) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == parsed
    answer = client.responses.parse(model="demo", input=said, text_format=person, temperature=0)
    assert isinstance(answer.output_parsed, person)


def test_several_replies(client: Any) -> None:
    ask = ASK | {"temperature": 1.0}
    both = client.chat.completions.create(messages=SUM, n=2, **ask)
    assert [choice.index for choice in both.choices] == [0, 1]
    second = client.chat.completions.create(messages=SUM, **(ask | {"seed": 2}))
    assert both.choices[1].message == second.choices[0].message
    chunks = list(client.chat.completions.create(messages=SUM, n=2, stream=True, **ask))
    for n in (0, 1):
        pieces = [c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == n]
        assert "".join(pieces) == both.choices[n].message.content


def test_logprobs(client: Any) -> None:
    ask = ASK | {"messages": SUM, "reasoning_effort": "none", "logprobs": True, "top_logprobs": 2}
    content = client.chat.completions.create(**ask).choices[0].logprobs.content
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in content)
    assert all(entry.token == entry.top_logprobs[0].token for entry in content)  # greedy
    streamed = [
        entry
        for chunk in client.chat.completions.create(stream=True, **ask)
        for entry in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else ())
    ]
    assert streamed == content


def test_stop_string(client: Any) -> None:
    ask = ASK | {"messages": SUM, "reasoning_effort": "none"}
    full = client.chat.completions.create(**ask).choices[0].message.content
    assert "42" in full
    cut = client.chat.completions.create(stop=["42"], **ask).choices[0]
    assert cut.message.content == full[: full.index("42")]
    assert (cut.finish_reason, cut.stop_reason) == ("stop", "42")


def test_max_tokens(client: Any) -> None:
    for key in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(messages=SUM, **ASK, **{key: 3})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 3


def test_logit_bias(client: Any, server: Served) -> None:
    token = server.service.engine.tokenizer.encode("cat")[0]
    answer = client.chat.completions.create(
        messages=SUM, logit_bias={str(token): 1000}, max_tokens=4, reasoning_effort="none", **ASK
    )
    assert answer.choices[0].message.content.startswith(server.service.engine.tokenizer.decode([token]))


def test_completions(client: Any, server: Served) -> None:
    ask = {"model": "demo", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    answer = client.completions.create(**ask)
    text = answer.choices[0].text
    assert 0 < answer.usage.completion_tokens <= 8
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(stream=True, **ask)) == text
    ids = server.service.engine.tokenizer.encode(ask["prompt"])
    assert client.completions.create(**(ask | {"prompt": ids})).choices[0].text == text
    several = client.completions.create(**(ask | {"prompt": [ids, ids], "n": 2, "echo": True}))
    assert [choice.text for choice in several.choices] == [ask["prompt"] + text] * 4
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.usage.prompt_tokens == 2 * len(ids)  # each prompt once, of however many replies
    assert several.usage.completion_tokens == 4 * answer.usage.completion_tokens
    told = client.completions.create(logprobs=2, **ask).choices[0].logprobs
    assert "".join(told.tokens) == text
    assert [len(told.token_logprobs), len(told.top_logprobs), len(told.text_offset)] == [len(told.tokens)] * 3
    assert len(client.completions.create(model="demo", prompt="a").choices) == 1


def test_responses(client: Any) -> None:
    answer = client.responses.create(model="demo", input="What is 12 + 30?", temperature=0)
    assert "42" in answer.output_text
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.status == "completed"
    assert answer.usage.output_tokens_details.reasoning_tokens > 0
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    after = client.responses.create(
        model="demo", input="And what is 7 + 8?", previous_response_id=answer.id, temperature=0
    )
    assert after.usage.input_tokens > answer.usage.input_tokens
    assert after.usage.input_tokens_details.cached_tokens > 0
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="demo", input="x", previous_response_id=answer.id)
    assert refused.value.param == "previous_response_id"


def test_responses_stream(client: Any) -> None:
    events = list(client.responses.create(model="demo", input="What is 12 + 30?", temperature=0, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type.removeprefix("response.") for event in events))
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_text.delta",
        "output_text.done",
        "completed",
    ]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    assert "42" in text


def test_responses_tool_loop(client: Any) -> None:
    tool = {"type": "function", **TOOL["function"]}
    ask: dict[str, Any] = {"model": "demo", "tools": [tool], "temperature": 0, "store": False}
    given: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = client.responses.create(input=given, **ask)
    call = answer.output[-1]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Paris"})
    events = list(client.responses.create(input=given, stream=True, **ask))
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    items = [item.model_dump(exclude_none=True) for item in events[-1].response.output]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    after = client.responses.create(input=[*given, *items, result], **ask)
    assert after.output_text
    assert after.usage.input_tokens_details.cached_tokens >= answer.usage.total_tokens - 8


def test_responses_count(client: Any) -> None:
    answer = client.responses.create(model="demo", input="Hello!", temperature=0, max_output_tokens=2)
    assert answer.status == "incomplete"
    assert client.responses.input_tokens.count(model="demo", input="Hello!").input_tokens == answer.usage.input_tokens


def test_asynchronous_client(server: Served) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            whole, stream = await asyncio.gather(
                client.chat.completions.create(messages=SUM, **ASK),
                client.chat.completions.create(messages=SUM, stream=True, **ASK),
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == whole.choices[0].message.content

    asyncio.run(ask())


def test_errors_are_the_client_s_own(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(messages=SUM, **(ASK | {"temperature": -1}))
    assert (refused.value.param, refused.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(messages=[{"role": "user", "content": "word " * 9000}], **ASK)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError) as absent:
        client.embeddings.create(model="demo", input="x")
    assert absent.value.status_code == 501
