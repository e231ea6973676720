"""Ollama's API: the lines as they are written, and what its client does not show."""

import json
from typing import Any

import httpx
import pytest
from conversations import WEATHER_QUESTION
from ollama_requests import ASKED, WEATHER
from serving import Served


def lines_of(http: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = http.post(path, json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize(
    ("think", "thinks"), [(True, True), (False, False), ("low", True), ("high", True), ("none", False)]
)
def test_thinking_is_switched(http: httpx.Client, think: Any, thinks: bool) -> None:
    answer = http.post("/api/chat", json=ASKED | {"think": think, "stream": False}).json()
    assert bool(answer["message"].get("thinking")) is thinks


def test_a_call_is_told_when_it_is_whole(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": WEATHER_QUESTION}]
    lines = lines_of(http, "/api/chat", ASKED | {"messages": messages, "tools": [WEATHER]})
    calls = [call for line in lines for call in line["message"].get("tool_calls", [])]
    assert [call["function"] for call in calls] == [{"index": 0, "name": "get_weather", "arguments": {"city": "Rome"}}]
    assert lines[-1]["done_reason"] == "stop"


def test_a_context_that_was_not_loaded_is_told_once(server: Served, http: httpx.Client) -> None:
    for _ in range(3):
        asked = ASKED | {"options": {"num_ctx": 131072, "num_predict": 1, "num_gpu": 99, "zebra": 1}}
        assert http.post("/api/chat", json=asked).status_code == 200
    assert len([line for line in server.lines if "num_ctx above" in line]) == 1
    assert len([line for line in server.lines if "options.zebra" in line]) == 1
    assert not [line for line in server.lines if "num_gpu" in line]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/embed"),
        ("POST", "/api/embeddings"),
    ],
)
def test_what_is_not_here_says_so(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path, json={"model": "demo"})
    assert answer.status_code == 501
    assert answer.json()["error"].startswith(f"{path} is not supported: ")
