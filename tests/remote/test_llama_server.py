"""llama.cpp's own server, with the embedded model, as the server elsewhere; skipped where it is not on PATH."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import served
from upstream import completed, until

from qwen35_local import Model
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.job import Told
from qwen35_local.engine.reply import Completion, ContextFull, Done, Request
from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine

PROGRAM = shutil.which("llama-server")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no llama-server on PATH")

FILE = next(Path(str(files("qwen35_local.models").joinpath("demo"))).glob("*.gguf"))
CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The current time of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def engine() -> Iterator[RemoteEngine]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PROGRAM), "-m", str(FILE), "--host", "127.0.0.1", "--port", str(port)]
    command += ["-c", "4096", "-np", "2", "-t", "2", "--jinja"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert running.poll() is None
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        assert until(is_ready, 60)
        yield RemoteEngine(Address(f"{url}/v1"))
    finally:
        running.terminate()
        running.wait(20)


def request(engine: Any, text: str = "What is the capital of France?", **wishes: Any) -> Request:
    settings = replace(engine.preset(thinking=False), temperature=0.0)
    return Request([Message("user", text)], settings, **{"max_tokens": 300, **wishes})


def end(engine: Any, asked: Request) -> Done:
    *_, done = engine.reply(asked)
    assert isinstance(done, Done)
    return done


def test_the_same_words_as_here(engine: RemoteEngine) -> None:
    with Model.from_file(context_tokens=4096, threads=1) as model:
        for thinking in (False, True):
            here, there = (end(each, request(each, thinking=thinking)) for each in (model._engine, engine))
            assert there.message.text == here.message.text and there.reason == here.reason == "stop"
            assert (there.message.reasoning or "").strip() == (here.message.reasoning or "").strip()
            assert there.usage.prompt_tokens == here.usage.prompt_tokens
            assert bool(there.message.reasoning) is thinking


def test_a_second_turn_is_read_from_its_cache(engine: RemoteEngine) -> None:
    first = request(engine, thinking=False)
    said = end(engine, first).message
    second = Request([*first.messages, said, Message("user", "And of Italy?")], first.sampling, thinking=False)
    assert end(engine, second).usage.reused_tokens > 0


def test_a_call(engine: RemoteEngine) -> None:
    wishes: dict[str, Any] = {"tools": [CLOCK], "thinking": False, "tool_choice": ToolChoice("required")}
    done = end(engine, request(engine, "What time is it in Paris?", **wishes))
    assert done.reason == "tool_calls" and done.message.tool_calls[0].name == "get_time"
    assert isinstance(done.message.tool_calls[0].arguments["city"], str)


def test_an_answer_by_a_schema(engine: RemoteEngine) -> None:
    schema = '{"type": "object", "properties": {"capital": {"enum": ["Paris"]}}, "required": ["capital"]}'
    done = end(engine, request(engine, thinking=False, output_format=OutputFormat("json_schema", schema)))
    assert "".join(done.message.text.split()) == '{"capital":"Paris"}'


@pytest.mark.parametrize("budget", [3, None])
def test_thinking_that_is_ended_is_followed_by_an_answer(engine: RemoteEngine, budget: int | None) -> None:
    """By the server's own budget, and by a second request behind the thoughts."""
    told: list[Told] = []
    job = engine.submit(request(engine, thinking=True, thinking_tokens=budget), told.append)
    assert until(lambda: bool(told), 60)
    if budget is None:
        job.answer_now()
    assert until(lambda: isinstance(told[-1], Done), 120)
    done = told[-1]
    assert isinstance(done, Done) and done.reason == "stop" and done.message.reasoning and done.message.text
    assert "</think>" not in done.message.text


def test_a_plain_text_goes_on_as_here(engine: RemoteEngine) -> None:
    with Model.from_file(context_tokens=4096, threads=1) as model:
        tokens = model._engine.tokenizer.encode("The capital of France is")
        assert engine.tokenizer.encode_prompt([("The capital of France is", True)]) == tokens
        assert engine.tokenizer.decode(tokens) == "The capital of France is"
        asked = Completion(tokens, Sampling(temperature=0), max_tokens=12)
        *_, here = model._engine.complete(asked)
    there = completed(engine, asked)
    assert isinstance(here, Done)
    assert (there.message.text, there.reason) == (here.message.text, here.reason)
    assert there.usage.prompt_tokens == here.usage.prompt_tokens


def test_it_counts_as_many_tokens_as_it_reads(engine: RemoteEngine) -> None:
    for thinking in (False, True):
        asked = request(engine, thinking=thinking, tools=[CLOCK])
        assert engine.count(asked) == end(engine, asked).usage.prompt_tokens


def test_a_reply_goes_on_from_a_text(engine: RemoteEngine) -> None:
    whole = end(engine, request(engine, thinking=False)).message.text
    asked = request(engine)
    given = Message("assistant", whole[:11])
    done = end(engine, replace(asked, messages=[*asked.messages, given], goes_on=True))
    assert done.message.text == whole[11:]
    assert engine.count(replace(asked, messages=[*asked.messages, given], goes_on=True)) == done.usage.prompt_tokens


def test_a_prompt_that_does_not_fit(engine: RemoteEngine) -> None:
    with pytest.raises(ContextFull):
        end(engine, request(engine, "word " * 9000))


def test_another_dialect_over_it(engine: RemoteEngine) -> None:
    with served(engine) as server:
        body = {"model": "demo", "messages": [{"role": "user", "content": "What is 12 + 30?"}], "stream": False}
        answer = httpx.post(f"{server.url}/api/chat", json={**body, "think": False}, timeout=120).json()
    assert answer["done"] is True and answer["message"]["content"]
