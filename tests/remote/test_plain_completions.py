"""Texts that go on with no conversation around them, and their tokens, by a server that has a tokenizer to ask."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import served
from starlette.responses import PlainTextResponse
from upstream import DONE, MODEL, Upstream, until, upstream, usage

from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.job import Failed, Told
from qwen35_local.engine.reply import Completion, Done
from qwen35_local.errors import InputError, RemoteError, Unavailable
from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine

OWNERS = {"vllm": "vllm", "llama.cpp": "llamacpp"}
KINDS = pytest.mark.parametrize("kind", OWNERS)
PIECES = ["\n\n<think>", "</think>\n", " a", "<tool_call>"]


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


def engine_of(server: Upstream, kind: str) -> RemoteEngine:
    server.models = {"data": [{**MODEL, "owned_by": OWNERS.get(kind, kind)}]}
    return RemoteEngine(Address(f"{server.url}/v1"))


def said(*texts: str, finish: str = "stop") -> list[Any]:
    choices: list[dict[str, Any]] = [{"index": 0, "text": text, "finish_reason": None} for text in texts]
    choices.append({"index": 0, "text": "", "finish_reason": finish})
    return [*(f"data: {json.dumps({'choices': [choice]})}\n\n".encode() for choice in choices), usage(), DONE]


def completed(engine: RemoteEngine, asked: Completion) -> Done:
    told: list[Told] = []
    engine.submit(asked, told.append)
    assert until(lambda: bool(told) and isinstance(told[-1], Done | Failed))
    assert isinstance(told[-1], Done), told[-1]
    return told[-1]


@KINDS
def test_what_comes_is_text_whatever_it_looks_like(server: Upstream, kind: str) -> None:
    server.script = [said(*PIECES, finish="length")]
    done = completed(engine_of(server, kind), Completion([5, 6], Sampling(temperature=0.5), max_tokens=9))
    assert (done.message.text, done.reason) == ("".join(PIECES), "length")
    assert not done.message.reasoning and done.usage.prompt_tokens == 7
    body = server.bodies[0]
    assert (body["prompt"], body["max_tokens"], body["temperature"]) == ([5, 6], 9, 0.5)
    assert "messages" not in body


@KINDS
def test_stop_strings_end_it(server: Upstream, kind: str) -> None:
    server.script = [said("one. ", "two. ", "three. ")]
    done = completed(engine_of(server, kind), Completion([5], Sampling(), stop=("wo",)))
    assert (done.message.text, done.stop_string) == ("one. t", "wo")


@KINDS
def test_clients_have_it_in_every_dialect(server: Upstream, kind: str) -> None:
    with served(engine_of(server, kind)) as running:  # type: ignore[arg-type]
        for path, body, key in (
            ("/v1/completions", {"prompt": "Once", "echo": True}, "text"),
            ("/completion", {"prompt": "Once"}, "content"),
            ("/api/generate", {"model": "m", "prompt": "Once", "raw": True, "stream": False}, "response"),
        ):
            server.script = [said(" upon", " a time")]
            answer = httpx.post(running.url + path, json=body).json()
            found = answer["choices"][0] if "choices" in answer else answer
            assert found[key].removeprefix("Once") == " upon a time", path
            assert server.bodies[-1]["prompt"] == [*map(ord, "Once")]
        assert httpx.post(f"{running.url}/tokenize", json={"content": "ab"}).json() == {"tokens": [97, 98]}
        assert httpx.post(f"{running.url}/detokenize", json={"tokens": [97, 98]}).json()["content"] == "ab"
    asked = [body for path, body in server.counted if path == "/tokenize"]
    keys = {"vllm": {"model", "prompt", "add_special_tokens"}, "llama.cpp": {"content", "add_special", "parse_special"}}
    assert asked and all(body.keys() == keys[kind] for body in asked)


def test_what_is_refused(server: Upstream) -> None:
    cases: list[tuple[str, dict[str, Any], type[Exception]]] = [
        ("vllm", {"logprobs": 1}, InputError),
        ("somebody", {}, Unavailable),
    ]
    for kind, more, error in cases:
        with pytest.raises(error):
            engine_of(server, kind).submit(Completion([5], Sampling(), **more), lambda told: None)
    with pytest.raises(Unavailable, match="alone"):
        engine_of(server, "somebody").tokenizer.encode_prompt([("Once", True)])


@KINDS
@pytest.mark.parametrize("answer", [{}, [1], {"tokens": ["a"], "prompt": 5, "content": None}, PlainTextResponse("no")])
def test_an_answer_that_is_none(server: Upstream, kind: str, answer: Any) -> None:
    server.counts = lambda path, body: answer
    tokenizer = engine_of(server, kind).tokenizer
    with pytest.raises(RemoteError, match=server.url):
        tokenizer.encode_prompt([("Once", True)])
    with pytest.raises(RemoteError, match=server.url):
        tokenizer.decode([5])
