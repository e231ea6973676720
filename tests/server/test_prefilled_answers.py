"""A last message of the assistant's, which the answer goes on from, in every dialect that has such a thing."""

import json
from typing import Any

import httpx
import pytest
from conversations import CAPITAL, events_of
from serving import Served

GIVEN = "The capital"
TALK = [{"role": "user", "content": CAPITAL}, {"role": "assistant", "content": GIVEN}]
CLAUDE: dict[str, Any] = {"model": "m", "max_tokens": 60, "temperature": 0}
GO_ON: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}


def chat(http: httpx.Client, messages: list[Any], **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/chat/completions", json={"messages": messages, "temperature": 0} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def anthropic(http: httpx.Client, messages: list[Any], **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/messages", json=CLAUDE | {"messages": messages} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def rest(http: httpx.Client) -> str:
    """What the model says behind `GIVEN`, asked without any."""
    whole = chat(http, TALK[:1], enable_thinking=False)["choices"][0]["message"]["content"]
    assert whole.startswith(GIVEN) and "Rome" in whole
    return str(whole.removeprefix(GIVEN))


def test_openai(http: httpx.Client, rest: str) -> None:
    for fields in (
        GO_ON,
        {"continue_final_message": "content", "add_generation_prompt": False},
        dict([*GO_ON.items()][:1]),
    ):
        (choice,) = chat(http, TALK, **fields)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (rest, "stop")
        assert "reasoning_content" not in choice["message"]
    body = {"messages": TALK, "temperature": 0, "stream": True, **GO_ON}
    chunks = [data["choices"][0]["delta"] for _, data in events_of(http.post("/v1/chat/completions", json=body).text)]
    assert "".join(delta.get("content", "") for delta in chunks) == rest


def test_without_the_switch_the_model_answers_anew(http: httpx.Client, rest: str) -> None:
    assert chat(http, TALK, enable_thinking=False)["choices"][0]["message"]["content"] != rest


def test_anthropic(http: httpx.Client, rest: str) -> None:
    message = anthropic(http, TALK)
    assert message["content"] == [{"type": "text", "text": rest}]
    blocks = [{"type": "text", "text": GIVEN[:3]}, {"type": "text", "text": GIVEN[3:]}]
    again = anthropic(http, [TALK[0], {"role": "assistant", "content": blocks}], thinking={"type": "disabled"})
    assert again["content"] == message["content"]
    streamed = http.post("/v1/messages", json=CLAUDE | {"messages": TALK, "stream": True}).text
    deltas = [data["delta"] for name, data in events_of(streamed) if name == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == rest
    counted = http.post("/v1/messages/count_tokens", json={"model": "m", "messages": TALK}).json()["input_tokens"]
    usage = message["usage"]
    assert counted == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_thinking_that_is_given_is_over(http: httpx.Client) -> None:
    thought = {"type": "thinking", "thinking": "Italy: Rome.", "signature": "s"}
    talk = [TALK[0], {"role": "assistant", "content": [thought, {"type": "text", "text": GIVEN}]}]
    message = anthropic(http, talk, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block["type"] for block in message["content"]] == ["text"]
    (choice,) = chat(http, [TALK[0], {**TALK[1], "reasoning_content": "Italy: Rome."}], **GO_ON)["choices"]
    assert choice["message"]["content"] == message["content"][0]["text"]
    (choice,) = chat(http, [TALK[0], {**TALK[1], "content": "", "reasoning_content": "Italy: Rome."}], **GO_ON)[
        "choices"
    ]
    assert choice["message"]["content"] and "reasoning_content" not in choice["message"]


def test_an_empty_last_message_is_none(http: httpx.Client) -> None:
    ask: dict[str, Any] = {"thinking": {"type": "disabled"}}
    plain = anthropic(http, TALK[:1], **ask)["content"]
    assert anthropic(http, [TALK[0], {"role": "assistant", "content": ""}], **ask)["content"] == plain


def test_ollama(http: httpx.Client, rest: str) -> None:
    for think in (None, False, True):
        body = {"model": "m", "messages": TALK, "options": {"temperature": 0}, "stream": False, "think": think}
        answer = http.post("/api/chat", json=body).json()
        assert answer["message"] == {"role": "assistant", "content": rest}


def test_the_next_turn_reads_only_what_is_new(http: httpx.Client, server: Served) -> None:
    system = {"role": "system", "content": "You answer shortly. " * 30}
    first = chat(http, [system, *TALK], **GO_ON)
    whole = GIVEN + first["choices"][0]["message"]["content"]
    turns = [system, TALK[0], {"role": "assistant", "content": whole}, {"role": "user", "content": "And of France?"}]
    usage = chat(http, turns, enable_thinking=False)["usage"]
    new = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    assert new < 60 < first["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": TALK[:1], **GO_ON}, "continue_final_message"),
        (
            "/v1/chat/completions",
            {"messages": TALK, "continue_final_message": "reasoning_content"},
            "continue_final_message",
        ),
        ("/v1/chat/completions", {"messages": TALK, **GO_ON, "add_generation_prompt": True}, "add_generation_prompt"),
        ("/v1/chat/completions", {"messages": TALK, "add_generation_prompt": False}, "add_generation_prompt"),
        ("/v1/chat/completions", {"messages": TALK, **GO_ON, "enable_thinking": True}, "continue_final_message"),
        ("/v1/chat/completions", {"messages": TALK, **GO_ON, "response_format": {"type": "json_object"}}, None),
        (
            "/v1/messages",
            {**CLAUDE, "messages": TALK, "thinking": {"type": "enabled", "budget_tokens": 1024}},
            "messages",
        ),
    ],
)
def test_what_is_refused(http: httpx.Client, path: str, body: dict[str, Any], param: str | None) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (param or "given form") in json.dumps(error)
