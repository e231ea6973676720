"""How many tokens a conversation has elsewhere, and what follows from that: conversations that are shortened."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import served
from starlette.responses import JSONResponse, PlainTextResponse
from upstream import DONE, MODEL, Upstream, event, said, upstream, usage

from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.reply import Compacted, Done, Request
from qwen35_local.errors import InputError, RemoteError, Unavailable
from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
OWNERS = {"vllm": "vllm", "llama.cpp": "llamacpp", "other": "somebody"}


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


def engine_of(server: Upstream, kind: str, context_tokens: int = 1000) -> RemoteEngine:
    server.models = {"data": [{**MODEL, "owned_by": OWNERS[kind], "max_model_len": context_tokens or None}]}
    return RemoteEngine(Address(f"{server.url}/v1"))


def request(*texts: str, **wishes: Any) -> Request:
    """The person and the model speak in turns."""
    messages = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    return Request(messages, Sampling(), **wishes)


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_the_server_counts_the_prompt_that_it_would_have(server: Upstream, kind: str) -> None:
    engine = engine_of(server, kind)
    assert engine.count(request("Hello", tools=[TOOL], thinking=False)) == 5
    path, body = server.counted[0]
    assert path == {"vllm": "/tokenize", "llama.cpp": "/apply-template"}[kind]
    assert body["messages"] == [{"role": "user", "content": "Hello"}] and body["tools"] == [TOOL]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    if kind == "llama.cpp":
        assert server.counted[1] == ("/tokenize", {"content": "Hello", "add_special": True, "parse_special": True})
    else:
        assert body["model"] == MODEL["id"] and body["add_generation_prompt"] is True
        engine.count(request("Hello", "Hi", goes_on=True))
        assert server.counted[-1][1]["add_generation_prompt"] is False


@pytest.mark.parametrize(
    "answer", [{}, [], {"count": "5", "tokens": 5, "prompt": 5}, PlainTextResponse("no"), JSONResponse({}, 500)]
)
@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_what_is_no_count(server: Upstream, kind: str, answer: Any) -> None:
    server.counts = lambda path, body: answer
    with pytest.raises(RemoteError, match=server.url):
        engine_of(server, kind).count(request("Hello"))


def test_another_server_is_not_asked(server: Upstream) -> None:
    with pytest.raises(Unavailable, match="not known to count"):
        engine_of(server, "other").count(request("Hello"))
    assert server.counted == []


def test_clients_are_told(server: Upstream) -> None:
    said_so = [{"role": "user", "content": "Hello"}]
    with served(engine_of(server, "vllm")) as running:  # type: ignore[arg-type]
        for path, body in {
            "/v1/messages/count_tokens": {"model": "m", "messages": said_so},
            "/v1/chat/completions/input_tokens": {"messages": said_so},
            "/v1/responses/input_tokens": {"input": "Hello"},
        }.items():
            assert httpx.post(running.url + path, json=body).json()["input_tokens"] == 5


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_a_conversation_that_does_not_fit_is_shortened(server: Upstream, kind: str) -> None:
    engine = engine_of(server, kind)
    server.script = [said("Yes.")]
    asked = request("a" * 300, "b" * 300, "c" * 200, "d" * 200, "e" * 100, when_full="compact", max_tokens=100)
    dropped, *_, done = engine.reply(asked)
    assert dropped == Compacted(tuple(asked.messages[:2]), 1100, 500) and isinstance(done, Done)
    assert [len(message["content"]) for message in server.bodies[0]["messages"]] == [200, 200, 100]
    server.script = [said("Yes.")]
    assert not any(isinstance(event, Compacted) for event in engine.reply(request("a" * 300, when_full="compact")))


def test_a_reply_of_the_longest_length_has_its_usage(server: Upstream) -> None:
    """Which comes behind the last token; a server that keeps to no limit is ended all the same."""
    engine = engine_of(server, "vllm")
    pieces = [event({"content": "a"})] * 3
    server.script = [[*pieces, event({}, "length"), usage(prompt=7, generated=3), DONE], pieces * 100]
    *_, done = engine.reply(request("Hello", max_tokens=3))
    assert isinstance(done, Done) and (done.reason, done.message.text) == ("length", "aaa")
    assert (done.usage.prompt_tokens, done.usage.generated_tokens) == (7, 3)
    *_, done = engine.reply(request("Hello", max_tokens=3))
    assert isinstance(done, Done) and done.reason == "length" and len(done.message.text) < 100


def test_what_fits_has_to_be_known(server: Upstream) -> None:
    for kind, context_tokens, error in (("vllm", 0, InputError), ("other", 1000, Unavailable)):
        engine = engine_of(server, kind, context_tokens)
        with pytest.raises(error):
            engine.submit(request("Hello", when_full="compact"), lambda told: None)


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp", "other"])
def test_a_reply_goes_on_from_a_text(server: Upstream, kind: str) -> None:
    engine = engine_of(server, kind)
    asked = request("Hello", "Good", goes_on=True)
    if kind == "other":
        with pytest.raises(InputError, match="go on from a text"):
            engine.submit(asked, lambda told: None)
        return
    server.script = [said(" day.")]
    *_, done = engine.reply(asked)
    assert isinstance(done, Done) and done.message.text == " day."
    body = server.bodies[0]
    how = {"vllm": True, "llama.cpp": "content"}[kind]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (how, False)
    assert body["messages"][-1]["content"] == "Good"
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
