"""Agents' conversations over the wire: every turn reads only what is new, whatever the agent keeps of a reply."""

import json
import threading
import time
from typing import Any

import httpx
import pytest
from agents import CALLING, QUESTION, RESULT, TALKING, Agent, Turn
from conversations import CAPITAL
from serving import Served

AROUND = 24  # tokens that the template puts around a turn and its results, the next turn's opening included


class Meter:
    """What the server read for a turn."""

    def __init__(self, server: Served, http: httpx.Client) -> None:
        self._server = server
        self._http = http

    def ask(self, agent: Agent, said: list[Any]) -> tuple[Turn, int]:
        """The turn, and how many tokens of its prompt were read anew."""
        counters = self._server.service.counters
        before = counters.prompt_tokens - counters.reused_tokens
        turn = agent.ask(self._http, said)
        return turn, counters.prompt_tokens - counters.reused_tokens - before

    def tokens(self, text: str) -> int:
        return len(self._server.service.engine.tokenizer.encode(text))


@pytest.fixture
def meter(server: Served, http: httpx.Client) -> Meter:
    return Meter(server, http)


def named(agent: Agent) -> str:
    return agent.name


@pytest.mark.parametrize("agent", CALLING, ids=named)
def test_the_result_of_a_tool_is_all_that_is_read(meter: Meter, agent: Agent) -> None:
    said = agent.remark(QUESTION)
    first, _ = meter.ask(agent, said)
    assert first.called == "get_weather"
    said += [*first.kept, *agent.result(first.kept)]
    second, read = meter.ask(agent, said)
    assert second.called is None
    assert "sunny" in json.dumps(second.kept)
    assert read <= meter.tokens(RESULT) + AROUND
    assert second.prompt_tokens > first.prompt_tokens
    if second.cached_tokens >= 0:
        assert second.prompt_tokens - second.cached_tokens == read


@pytest.mark.parametrize("agent", TALKING, ids=named)
def test_a_second_turn_reads_the_answer_and_the_question(meter: Meter, agent: Agent) -> None:
    said = agent.remark("Hello! My name is Ann.")
    first, _ = meter.ask(agent, said)
    question = agent.remark(CAPITAL)
    second, read = meter.ask(agent, [*said, *first.kept, *question])
    answer = texts(first.kept)
    assert read <= meter.tokens(answer) + meter.tokens(texts(question)) + AROUND
    assert second.prompt_tokens - read > 40


@pytest.mark.parametrize("agent", TALKING, ids=named)
def test_the_same_turn_again_reads_nothing(meter: Meter, agent: Agent) -> None:
    said = agent.remark(CAPITAL)
    first, _ = meter.ask(agent, said)
    again, read = meter.ask(agent, said)
    assert read == 0
    assert texts(again.kept) == texts(first.kept)


def test_a_reply_without_its_thinking_is_read_while_nobody_asks(
    server: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = server.service.engine
    read, prefill_ahead = threading.Event(), engine.prefill_ahead

    question = "What is 58 plus 25? Please."

    def noting(request: Any, reply: Any) -> None:
        prefill_ahead(request, reply)
        if request.messages[-1].text == question:  # what was asked before may be read late
            read.set()

    monkeypatch.setattr(engine, "prefill_ahead", noting)
    messages = [{"role": "user", "content": question}]
    body = {"messages": messages, "temperature": 0, "chat_template_kwargs": {"enable_thinking": True}}
    reply = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert reply["reasoning_content"] and "83" in reply["content"]
    assert read.wait(10)
    deadline = time.monotonic() + 10
    while engine._scheduler.idle is not None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    thanks = {"role": "user", "content": "Thanks"}
    messages += [{"role": "assistant", "content": reply["content"]}, thanks]
    usage = http.post("/v1/chat/completions", json=body | {"max_tokens": 1}).json()["usage"]
    opened = "<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] <= 1 + len(
        engine.tokenizer.encode(opened)
    )


def texts(items: list[Any]) -> str:
    """All that is said in messages of any dialect, without thinking."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("text", "content", "arguments", "input") and value.get("type") != "reasoning":
                    found.append(inner) if isinstance(inner, str) else walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(items)
    return " ".join(found)
