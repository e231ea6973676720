"""Every dialect over a remote engine."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import Served, served
from starlette.responses import JSONResponse, PlainTextResponse
from upstream import DONE, Upstream, event, said, until, upstream, usage

from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine

THOUGHT = event({"reasoning": "Hm"})
CALL = event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "clock", "arguments": '{"zone":"UTC"}'}}]})
TOOL = {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}
QUESTION = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def fake() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture
def server(fake: Upstream) -> Iterator[Served]:
    with served(RemoteEngine(Address(f"{fake.url}/v1"))) as running:
        yield running


def client_library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs the [clients] extra: {name} is missing")


@pytest.mark.clients
def test_openai(fake: Upstream, server: Served) -> None:
    openai = client_library("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    fake.script = [[THOUGHT, *said("Hel", "lo!")], [THOUGHT, CALL, event({}, "tool_calls"), usage(), DONE], said("Hi.")]
    chunks = list(client.chat.completions.create(model="demo", messages=QUESTION, stream=True, max_tokens=30))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert fake.bodies[0]["max_tokens"] == 30
    whole = client.chat.completions.create(
        model="demo", messages=QUESTION, tools=[{"type": "function", "function": TOOL}]
    )
    call = whole.choices[0].message.tool_calls[0]
    assert whole.choices[0].finish_reason == "tool_calls" and call.function.arguments == '{"zone": "UTC"}'
    assert whole.usage.prompt_tokens == 7 and whole.usage.prompt_tokens_details.cached_tokens == 3
    response = client.responses.create(model="demo", input="Hello")
    assert response.output_text == "Hi."
    assert [model.id for model in client.models.list()] == ["demo"]


@pytest.mark.clients
def test_anthropic(fake: Upstream, server: Served) -> None:
    anthropic = client_library("anthropic")
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    fake.script = [[THOUGHT, CALL, event({}, "tool_calls"), usage(), DONE]] * 2
    tools = [{"name": "clock", "input_schema": TOOL["parameters"]}]
    whole = client.messages.create(model="demo", max_tokens=2000, messages=QUESTION, tools=tools)
    assert whole.stop_reason == "tool_use" and whole.content[-1].input == {"zone": "UTC"}
    with client.messages.stream(model="demo", max_tokens=2000, messages=QUESTION, tools=tools) as stream:
        assert stream.get_final_message().content[-1].input == {"zone": "UTC"}


@pytest.mark.clients
def test_ollama(fake: Upstream, server: Served) -> None:
    ollama = client_library("ollama")
    client = ollama.Client(host=server.url)
    fake.script = [[THOUGHT, *said("Hel", "lo!")]]
    pieces = list(client.chat(model="demo", messages=QUESTION, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == "Hello!"
    assert client.list().models[0].model == "demo"
    assert client.show("demo").modelinfo is not None


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/props", "/slots", "/metrics", "/api/ps", "/api/tags"])
def test_what_is_told_of_a_model_elsewhere(server: Served, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 200


def test_what_cannot_be_is_said(fake: Upstream) -> None:
    fake.models = {"data": [{"id": "m", "owned_by": "somebody"}]}
    with served(RemoteEngine(Address(f"{fake.url}/v1"))) as server:
        refuses_what_it_cannot(server)


def refuses_what_it_cannot(server: Served) -> None:
    for path, body in {
        "/v1/completions": {"prompt": "Once"},
        "/tokenize": {"content": "Once"},
        "/apply-template": {"messages": QUESTION},
        "/v1/messages/count_tokens": {"model": "demo", "messages": QUESTION},
    }.items():
        answer = httpx.post(server.url + path, json=body)
        assert answer.status_code == 400 and ("alone" in answer.text or "not known" in answer.text), path


@pytest.mark.parametrize("streams", [False, True])
def test_failures_of_the_upstream_have_a_status_of_their_own(fake: Upstream, server: Served, streams: bool) -> None:
    body = {"model": "demo", "messages": QUESTION, "stream": streams}
    fake.script = [PlainTextResponse("no", 500), JSONResponse({"error": {"message": "bad"}}, 400), [b"data: x\n\n"]]
    for status in (502, 400, 502):
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
        assert answer.status_code == status and "error" in answer.json()
    fake.script = [PlainTextResponse("later", 429, headers={"retry-after": "77"})]
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == 429 and answer.headers["retry-after"] == "77"


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_what_the_upstream_says_is_told_but_not_logged(fake: Upstream, server: Served, status: int) -> None:
    """An error may repeat the conversation."""
    error = {"error": {"message": "cannot read 'pomegranate'"}}
    late = [
        event({"reasoning_content": "Hm."}),
        event({"content": "Hel"}),
        0.5,  # so that the answer has begun
        b"data: %b\n\n" % json.dumps(error).encode(),
    ]
    body = {"model": "demo", "messages": QUESTION, "stream": True}
    before = server.mark()
    fake.script = [late if status == 200 else JSONResponse(error, status, {"retry-after": "77"})]
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == (502 if status in (401, 500) else status) and "pomegranate" in answer.text
    (line,) = server.lines_since(before)
    assert "pomegranate" not in line and (fake.url in line) == (status not in (400, 429))


def test_a_client_that_leaves_ends_the_request_to_the_upstream(fake: Upstream, server: Served) -> None:
    fake.script = [[THOUGHT, event({"content": "Hel"}), 30.0]]
    body = {"model": "demo", "messages": QUESTION, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
        next(answer.iter_bytes())
    assert until(lambda: fake.left == 1)


def test_the_page(fake: Upstream, server: Served) -> None:
    fake.script = [[THOUGHT, *said("Hel", "lo!")]]
    state = httpx.get(f"{server.url}/v1/qwen35/status").json()
    assert state["model"] == "demo" and state["memory"] is None  # whose memory it is, the other machine knows
    body = {"messages": QUESTION, "return_cost": True}
    cost = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()["choices"][0]["qwen35"]
    assert cost["reason"] == "stop" and cost["differs_at"] is None
