"""Anthropic's Messages API: the bytes, and what its client does not show."""

from typing import Any

import httpx
from anthropic_requests import ASKED, CALL, DIRECT, WEATHER, raw
from conversations import SUM, events_of
from serving import Served

from qwen35_local.server.anthropic.request import read_message
from qwen35_local.server.body import Body


def test_events_as_they_are_written(http: httpx.Client) -> None:
    answer = http.post("/v1/messages", json=raw(CALL, stream=True), headers={"anthropic-version": "2023-06-01"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    named = events_of(answer.text)
    assert all(name == data["type"] for name, data in named)
    told = [data for name, data in named if name != "ping"]
    start = told[0]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 0)
    order = [data["type"] for data in told]
    assert order[:2] == ["message_start", "content_block_start"]
    assert order[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    starts = [data for data in told if data["type"] == "content_block_start"]
    assert [data["index"] for data in starts] == list(range(len(starts)))
    assert starts[0]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert starts[-1]["content_block"] | {"id": ""} == {
        "type": "tool_use",
        "id": "",
        "name": "get_weather",
        "input": {},
    }
    thinking = [data["delta"]["type"] for data in told if data["type"] == "content_block_delta" and not data["index"]]
    assert set(thinking[:-1]) == {"thinking_delta"}
    assert thinking[-1] == "signature_delta"
    ending = told[-2]
    assert ending["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert ending["usage"]["output_tokens"] > 5


def test_what_the_start_says_of_the_prompt_is_what_the_end_says(http: httpx.Client) -> None:
    asked = raw(DIRECT, stream=True, messages=[{"role": "user", "content": SUM}])
    told = dict(events_of(http.post("/v1/messages", json=asked).text))
    start, end = told["message_start"]["message"]["usage"], told["message_delta"]["usage"]
    for key in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert start[key] == end[key]


def test_results_are_read_in_the_order_of_their_calls(http: httpx.Client, server: Served) -> None:
    """The template shows no ids."""
    uses = [
        {"type": "tool_use", "id": f"toolu_{city}", "name": "get_weather", "input": {"city": city}}
        for city in ("Rome", "Oslo")
    ]
    results = [
        {"type": "tool_result", "tool_use_id": f"toolu_{city}", "content": f"{city} {sky}"}
        for city, sky in (("Rome", "sun"), ("Oslo", "snow"))
    ]

    def prompt(*blocks: Any) -> list[int]:
        turns = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": uses},
            {"role": "user", "content": [*blocks]},
        ]
        asked = read_message(Body(raw(ASKED, messages=turns)), server.service).requests[0]
        return server.service.engine.encode(asked).tokens

    right, wrong = prompt(*results), prompt(*reversed(results))
    assert right == wrong
    stranger = {"type": "tool_result", "tool_use_id": "toolu_other", "content": "?"}
    assert prompt(*results, stranger) != prompt(*reversed(results), stranger)


def test_a_result_that_is_an_error_says_so(http: httpx.Client) -> None:
    def tokens(**more: Any) -> int:
        use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such city", **more}
        turns = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        counted = http.post("/v1/messages/count_tokens", json={"model": "m", "messages": turns, "tools": [WEATHER]})
        return int(counted.json()["input_tokens"])

    assert tokens(is_error=True) > tokens() == tokens(is_error=False)
