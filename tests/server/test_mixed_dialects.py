"""Clients of every dialect at the same time: each is told what it would be told alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from conversations import CAPITAL, SUM, WEATHER_QUESTION, events_of

STORY = "Tell me a short story."
QUESTIONS = [CAPITAL, SUM, WEATHER_QUESTION, STORY, "Hello! My name is Ann.", "What is 48 + 37?"]
WARM = {"temperature": 1.5, "top_k": 40, "seed": 11}


def anthropic(http: httpx.Client, question: str) -> str:
    body = {"model": "m", "max_tokens": 120, "messages": [{"role": "user", "content": question}], "stream": True}
    told = events_of(http.post("/v1/messages", json=body | WARM).text)
    deltas = [data["delta"] for name, data in told if name == "content_block_delta"]
    return "".join(delta.get("thinking", delta.get("text", "")) for delta in deltas)


def ollama(http: httpx.Client, question: str) -> str:
    options = WARM | {"num_predict": 120}
    body = {"model": "m", "messages": [{"role": "user", "content": question}], "options": options, "stream": False}
    answer = http.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    message = answer.json()["message"]
    return str(message.get("thinking", "") + message["content"])


def openai(http: httpx.Client, question: str) -> str:
    body = {"max_tokens": 120, "messages": [{"role": "user", "content": question}], "stream": True}
    told = events_of(http.post("/v1/chat/completions", json=body | WARM).text)
    deltas = [choice["delta"] for _, data in told for choice in data["choices"]]
    return "".join((delta.get("reasoning") or "") + (delta.get("content") or "") for delta in deltas)


def llama_cpp(http: httpx.Client, question: str) -> str:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": question}]}
    prompt = http.post("/apply-template", json=said).json()["prompt"]
    return str(http.post("/completion", json={"prompt": prompt, "n_predict": 120, **WARM}).json()["content"])


DIALECTS: list[Callable[[httpx.Client, str], str]] = [anthropic, ollama, openai, llama_cpp]


def test_answers_do_not_depend_on_who_else_asks(http: httpx.Client) -> None:
    asked = [(dialect, question) for question in QUESTIONS for dialect in DIALECTS]
    alone = [dialect(http, question) for dialect, question in asked]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda each: each[0](http, each[1]), asked * 2))
    assert together == alone * 2
    assert len(set(alone)) > len(QUESTIONS)


def test_dialects_say_the_same(http: httpx.Client) -> None:
    for question in (CAPITAL, STORY):
        first, *others = (dialect(http, question) for dialect in (anthropic, ollama, openai))
        assert first
        assert others == [first, first]
