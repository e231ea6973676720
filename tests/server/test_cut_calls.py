"""Calls that `max_tokens` cuts, in each dialect: what a stream has told of one stays, and is no JSON; an answer in one
piece has it as text; and each says that it was cut."""

import json
from typing import Any

import httpx
import pytest
from conversations import WEATHER_QUESTION, events_of

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
ASK: dict[str, Any] = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": WEATHER_QUESTION}]}
CHAT = ASK | {"tools": [TOOL], "enable_thinking": False, "tool_choice": "required"}
CLAUDE = ASK | {
    "tools": [{"name": "get_weather", "input_schema": PARAMETERS}],
    "thinking": {"type": "disabled"},
    "tool_choice": {"type": "any"},
}
RESPONSES = {
    "input": WEATHER_QUESTION,
    "tools": [{"type": "function", "name": "get_weather", "parameters": PARAMETERS}],
    "temperature": 0,
    "reasoning": {"effort": "none"},
    "tool_choice": "required",
}
CITY = json.dumps({"city": "Rome"})


@pytest.fixture(scope="module")
def cuts(http: httpx.Client) -> list[int]:
    """Tokens that a reply may have, so that its call is cut."""
    found = []
    while True:
        n = len(found) + 1
        (choice,) = http.post("/v1/chat/completions", json=CHAT | {"max_tokens": n}).json()["choices"]
        if "tool_calls" in choice["message"]:
            assert choice["message"]["tool_calls"][0]["function"]["arguments"] == CITY
            return found
        found.append(n)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_openai(http: httpx.Client, cuts: list[int]) -> None:
    begun = set()
    for cut in cuts:
        (whole,) = http.post("/v1/chat/completions", json=CHAT | {"max_tokens": cut}).json()["choices"]
        assert (whole["finish_reason"], "tool_calls" in whole["message"]) == ("length", False)
        assert whole["message"]["content"].startswith("<tool_call>")
        streamed = http.post("/v1/chat/completions", json=CHAT | {"max_tokens": cut, "stream": True}).text
        choices = [data["choices"][0] for _, data in events_of(streamed)]
        assert choices[-1]["finish_reason"] == "length"
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
        arguments = "".join(call["function"]["arguments"] for call in calls)
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        assert not is_json(arguments) and CITY.startswith(arguments)
        assert text == ("" if calls else whole["message"]["content"])
        assert not calls or whole["notes"] == ["a call was cut short, and is none"]
        begun.add(arguments)
    assert len(begun) > 3


def test_anthropic(http: httpx.Client, cuts: list[int]) -> None:
    for cut in cuts:
        whole = http.post("/v1/messages", json=CLAUDE | {"max_tokens": cut}).json()
        assert (whole["stop_reason"], [block["type"] for block in whole["content"]]) == ("max_tokens", ["text"])
        events = events_of(http.post("/v1/messages", json=CLAUDE | {"max_tokens": cut, "stream": True}).text)
        assert events[-2][1]["delta"]["stop_reason"] == "max_tokens"
        blocks = [data["content_block"]["type"] for name, data in events if name == "content_block_start"]
        partial = "".join(
            data["delta"].get("partial_json", "") for name, data in events if name == "content_block_delta"
        )
        assert blocks == (["tool_use"] if partial else ["text"])
        assert not is_json(partial) and CITY.startswith(partial)


def test_responses(http: httpx.Client, cuts: list[int]) -> None:
    for cut in cuts:
        body = RESPONSES | {"max_output_tokens": cut}
        whole = http.post("/v1/responses", json=body).json()
        assert whole["status"] == "incomplete" and whole["incomplete_details"] == {"reason": "max_output_tokens"}
        assert [(item["type"], item["status"]) for item in whole["output"]] == [("message", "incomplete")]
        name, last = events_of(http.post("/v1/responses", json=body | {"stream": True}).text)[-1]
        assert name == "response.incomplete"
        (item,) = last["response"]["output"]
        assert item["status"] == "incomplete"
        if item["type"] == "function_call":
            assert not is_json(item["arguments"]) and CITY.startswith(item["arguments"])


def test_ollama(http: httpx.Client, cuts: list[int]) -> None:
    """Which tells of calls when they are whole."""
    body = {"model": "m", "messages": ASK["messages"], "tools": [TOOL], "think": False}
    for cut in cuts:
        asked = body | {"options": {"temperature": 0, "num_predict": cut}}
        whole = http.post("/api/chat", json=asked | {"stream": False}).json()
        lines = [json.loads(line) for line in http.post("/api/chat", json=asked).text.splitlines()]
        assert whole["done_reason"] == lines[-1]["done_reason"] == "length"
        assert all("tool_calls" not in line["message"] for line in (whole, *lines))
        assert "".join(line["message"]["content"] for line in lines) == whole["message"]["content"]


def test_a_client_may_give_it_back(http: httpx.Client) -> None:
    """With what it was told of the arguments, which is no JSON."""
    function = {"name": "get_weather", "arguments": CITY[:-4]}
    call = {"id": "c", "type": "function", "function": function}
    messages = [*ASK["messages"], {"role": "assistant", "content": None, "tool_calls": [call]}]
    result = {"role": "tool", "tool_call_id": "c", "content": "the arguments are no JSON"}
    answer = http.post("/v1/chat/completions", json=CHAT | {"messages": [*messages, result], "tool_choice": "auto"})
    assert answer.status_code == 200
