"""What holds for every dialect: answers, refusals and streams over a real socket."""

import json

import httpx
import pytest
from serving import served

from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Request
from qwen35_local.server.limits import Limits

QUESTION = {"messages": [{"role": "user", "content": "What is 12 + 30?"}], "temperature": 0}


def test_health(http: httpx.Client) -> None:
    answer = http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_answer_in_one_piece(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200
    (choice,) = answer.json()["choices"]
    assert "42" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


def test_stream_says_what_the_answer_in_one_piece_says(http: httpx.Client) -> None:
    whole = http.post("/v1/chat/completions", json=QUESTION).json()["choices"][0]["message"]
    text = http.post("/v1/chat/completions", json=QUESTION | {"stream": True}).text
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == whole["content"]
    assert "".join(delta.get("reasoning") or "" for delta in deltas) == whole["reasoning"]


def test_what_is_not_here(http: httpx.Client) -> None:
    for method, path, status in (("GET", "/v2", 404), ("GET", "/v1/chat/completions", 405)):
        answer = http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("breaks_loops", [True, False])
def test_what_repeats_itself_goes_on_where_the_server_was_told_so(
    demo_engine: Engine, monkeypatch: pytest.MonkeyPatch, breaks_loops: bool
) -> None:
    asked: list[Request] = []
    submit = demo_engine.submit
    monkeypatch.setattr(
        demo_engine,
        "submit",
        lambda request, *rest, **options: asked.append(request) or submit(request, *rest, **options),
    )
    with served(demo_engine, Limits(grace_seconds=1, breaks_loops=breaks_loops)) as server:
        assert httpx.post(f"{server.url}/v1/chat/completions", json=QUESTION, timeout=60).status_code == 200
    assert [request.breaks_loops for request in asked] == [breaks_loops]
