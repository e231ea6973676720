"""The official clients at the same time, streaming and not: each is told what it is told alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conversations import CAPITAL, SUM, WEATHER_QUESTION
from serving import Served

openai = pytest.importorskip("openai", reason="needs the [clients] extra: openai is missing")
anthropic = pytest.importorskip("anthropic", reason="needs the [clients] extra: anthropic is missing")
ollama = pytest.importorskip("ollama", reason="needs the [clients] extra: ollama is missing")

pytestmark = pytest.mark.clients

QUESTIONS = [CAPITAL, SUM, WEATHER_QUESTION, "Tell me a short story.", "Hello! My name is Ann."]
TOKENS = 120
SAMPLED = {"temperature": 1.5, "top_k": 40, "seed": 11}

Asker = Callable[[str], str]


def openai_s(server: Served) -> tuple[Asker, Asker]:
    chat = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=60).chat.completions

    def asked(question: str) -> dict[str, Any]:
        said = [{"role": "user", "content": question}]
        return {"model": "demo", "messages": said, "max_tokens": TOKENS, "extra_body": SAMPLED}

    def whole(question: str) -> str:
        return str(chat.create(**asked(question)).choices[0].message.content)

    def streamed(question: str) -> str:
        chunks = chat.create(**asked(question), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    return whole, streamed


def anthropic_s(server: Served) -> tuple[Asker, Asker]:
    messages = anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0, timeout=60).messages

    def asked(question: str) -> dict[str, Any]:
        said = [{"role": "user", "content": question}]
        return {"model": "demo", "messages": said, "max_tokens": TOKENS, "extra_body": SAMPLED}

    def whole(question: str) -> str:
        return "".join(block.text for block in messages.create(**asked(question)).content if block.type == "text")

    def streamed(question: str) -> str:
        with messages.stream(**asked(question)) as stream:
            return "".join(stream.text_stream)

    return whole, streamed


def ollama_s(server: Served) -> tuple[Asker, Asker]:
    client = ollama.Client(host=server.url, timeout=60)

    def asked(question: str) -> dict[str, Any]:
        said = [{"role": "user", "content": question}]
        return {"model": "demo", "messages": said, "options": SAMPLED | {"num_predict": TOKENS}}

    def whole(question: str) -> str:
        return str(client.chat(**asked(question)).message.content)

    def streamed(question: str) -> str:
        return "".join(part.message.content or "" for part in client.chat(**asked(question), stream=True))

    return whole, streamed


def test_each_is_told_what_it_is_told_alone(server: Served) -> None:
    askers = [asker for client in (openai_s, anthropic_s, ollama_s) for asker in client(server)]
    asked = [(asker, question) for question in QUESTIONS for asker in askers]
    alone = [asker(question) for asker, question in asked]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda each: each[0](each[1]), asked))
    assert together == alone
    # Nor does it matter which client asks.
    assert [alone[i : i + len(askers)] for i in range(0, len(alone), len(askers))] == [
        [text] * len(askers) for text in alone[:: len(askers)]
    ]
    assert len(set(alone)) == len(QUESTIONS)
