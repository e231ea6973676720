"""This program's own server, with the embedded model, as the server elsewhere: all that the same model does here."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from serving import Served, served
from upstream import completed, until

from qwen35_local import Model
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.job import Told
from qwen35_local.engine.reply import Completion, ContextFull, Done, Request
from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine

CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CAPITAL = "What is the capital of France?"


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model.from_file(context_tokens=4096, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def elsewhere(model: Model) -> Iterator[Served]:
    with served(model._engine) as running:
        yield running


@pytest.fixture(scope="module")
def engine(elsewhere: Served) -> RemoteEngine:
    return RemoteEngine(Address(f"{elsewhere.url}/v1"))


def request(text: str = CAPITAL, **wishes: Any) -> Request:
    return Request([Message("user", text)], Sampling(temperature=0), **{"max_tokens": 300, **wishes})


def end(engine: Any, asked: Request) -> Done:
    *_, done = engine.reply(asked)
    assert isinstance(done, Done)
    return done


WISHES: dict[str, dict[str, Any]] = {
    "answer": {"thinking": False},
    "thinking": {"thinking": True},
    "budget": {"thinking": True, "thinking_tokens": 3},
    "call": {"tools": [CLOCK], "thinking": False, "tool_choice": ToolChoice("required")},
    "call of one that thinks": {"tools": [CLOCK], "thinking": True, "tool_choice": ToolChoice("required")},
    "schema": {"thinking": False, "output_format": OutputFormat("json_schema", '{"enum": ["Paris", "Rome"]}')},
    "stop string": {"thinking": False, "stop": ("Paris",)},
    "length": {"thinking": False, "max_tokens": 3},
}


@pytest.mark.parametrize("name", WISHES)
def test_the_same_reply_as_here(engine: RemoteEngine, model: Model, name: str) -> None:
    asked = request(**WISHES[name])
    here, there = end(model._engine, asked), end(engine, asked)
    assert there.message.text == here.message.text
    assert (there.message.reasoning or "").strip() == (here.message.reasoning or "").strip()
    assert [(call.name, call.arguments) for call in there.message.tool_calls] == [
        (call.name, call.arguments) for call in here.message.tool_calls
    ]
    assert there.reason == here.reason
    assert here.usage.prompt_tokens == engine.count(asked)
    assert asked.stop or there.usage.prompt_tokens == here.usage.prompt_tokens  # what is cut off has no usage


def test_a_second_turn_is_read_from_its_cache(engine: RemoteEngine) -> None:
    first = request(thinking=False)
    said = end(engine, first).message
    second = replace(first, messages=[*first.messages, said, Message("user", "And of Italy?")])
    assert end(engine, second).usage.evaluated_tokens < 30


def test_a_reply_goes_on_from_a_text(engine: RemoteEngine) -> None:
    whole = end(engine, request(thinking=False)).message.text
    for thoughts in ("", "France: the capital is Paris."):
        asked = request()
        given = Message("assistant", whole[:11], thoughts)
        goes_on = replace(asked, messages=[*asked.messages, given], goes_on=True)
        done = end(engine, goes_on)
        assert done.message.text == whole[11:]
        assert engine.count(goes_on) == done.usage.prompt_tokens


def test_answer_now(engine: RemoteEngine) -> None:
    told: list[Told] = []
    job = engine.submit(request("What is 27 + 45?", thinking=True), told.append)
    assert until(lambda: bool(told), 60)
    job.answer_now()
    assert until(lambda: isinstance(told[-1], Done), 60)
    done = told[-1]
    assert isinstance(done, Done) and done.reason == "stop" and done.message.reasoning and done.message.text


def test_a_plain_text_goes_on_as_here(engine: RemoteEngine, model: Model) -> None:
    tokens = engine.tokenizer.encode_prompt([("The capital of France is", True)])
    asked = Completion(tokens, Sampling(temperature=0), max_tokens=12)
    *_, here = model._engine.complete(asked)
    there = completed(engine, asked)
    assert isinstance(here, Done)
    assert (there.message.text, there.reason) == (here.message.text, here.reason)


def test_a_prompt_that_does_not_fit(engine: RemoteEngine) -> None:
    with pytest.raises(ContextFull, match="the prompt is 9012 tokens and the context 4096"):
        end(engine, request("word " * 9000))


def test_nothing_that_is_asked_is_unknown_there(engine: RemoteEngine, elsewhere: Served) -> None:
    end(engine, request(thinking=True, thinking_tokens=3))
    assert not [line for line in elsewhere.lines if "is not known" in line]


def test_every_dialect_over_it(engine: RemoteEngine) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "What is 12 + 30?"}], "max_tokens": 300}
    with served(engine) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        texts = [
            client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"],
            client.post("/v1/messages", json=body).json()["content"][-1]["text"],
            client.post("/api/chat", json={**body, "stream": False}).json()["message"]["content"],
            client.post("/v1/responses", json={"input": "What is 12 + 30?"}).json()["output"][-1]["content"][0]["text"],
        ]
        counted = client.post("/v1/messages/count_tokens", json=body).json()
    assert all("42" in text for text in texts)
    assert counted["input_tokens"] > 10
