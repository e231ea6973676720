"""Ollama's API: what its own client makes of the answers."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from conversations import CAPITAL, WEATHER_QUESTION
from ollama_requests import ASKED, GREEDY, WEATHER
from serving import Served

ollama = pytest.importorskip("ollama", reason="needs the [clients] extra: ollama is missing")

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def client(server: Served) -> Any:
    return ollama.Client(host=server.url)


def test_a_chat_thinks_and_answers(client: Any) -> None:
    response = client.chat(**ASKED)
    assert "Rome" in response.message.content
    assert response.message.thinking
    assert (response.done, response.done_reason, response.model) == (True, "stop", "any")
    assert response.prompt_eval_count > 10
    assert response.eval_count > 5
    assert response.total_duration >= response.eval_duration > 0


def test_a_stream_adds_up_to_the_answer(client: Any) -> None:
    whole = client.chat(**ASKED)
    parts = list(client.chat(**ASKED, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count


def test_the_asynchronous_client(server: Served, client: Any) -> None:
    async def ask() -> tuple[Any, str]:
        other = ollama.AsyncClient(host=server.url)
        whole = await other.chat(**ASKED, think=False)
        return whole, "".join([p.message.content async for p in await other.chat(**ASKED, think=False, stream=True)])

    whole, streamed = asyncio.run(ask())
    assert whole.message.content == streamed == client.chat(**ASKED, think=False).message.content


def test_a_tool_is_called_and_its_result_is_read(client: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": WEATHER_QUESTION}]
    first = client.chat("any", messages, tools=[WEATHER], options=GREEDY)
    (call,) = first.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Rome"})
    result = json.dumps({"sky": "sunny", "temperature": 21})
    messages += [first.message, {"role": "tool", "tool_name": "get_weather", "content": result}]
    second = client.chat("any", messages, tools=[WEATHER], options=GREEDY)
    assert "sunny" in second.message.content
    assert second.prompt_eval_count > first.prompt_eval_count


def test_generate_answers_a_prompt(client: Any) -> None:
    whole = client.generate("any", CAPITAL, options=GREEDY, think=False)
    assert "Rome" in whole.response
    parts = list(client.generate("any", CAPITAL, options=GREEDY, think=False, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert client.generate("any", CAPITAL, options=GREEDY).thinking


def test_generate_goes_on_from_a_raw_prompt(client: Any) -> None:
    prompt = f"<|im_start|>user\n{CAPITAL}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    raw = client.generate("any", prompt, raw=True, options=GREEDY)
    assert raw.response == client.generate("any", CAPITAL, options=GREEDY, think=False).response
    assert raw.thinking is None


def test_options_are_followed(client: Any) -> None:
    short = client.chat(**ASKED | {"options": GREEDY | {"num_predict": 3}}, think=False)
    assert (short.eval_count, short.done_reason) == (3, "length")
    stopped = client.chat(**ASKED | {"options": GREEDY | {"stop": ["Rome"]}}, think=False)
    assert "Rome" not in stopped.message.content
    story = {"messages": [{"role": "user", "content": "Tell me a short story."}], "think": False}
    warm = {"temperature": 2, "top_k": 50, "top_p": 1, "num_predict": 30}
    first, again, other = (
        client.chat(**ASKED | story | {"options": warm | {"seed": seed}}).message.content for seed in (7, 7, 8)
    )
    assert first == again != other


@pytest.mark.parametrize("think", [True, False])
def test_an_answer_of_a_given_form(client: Any, think: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    said = [{"role": "user", "content": "Ann is 31 years old. Who is it?"}]
    chat = client.chat("any", said, format=schema, think=think, options=GREEDY)
    found = json.loads(chat.message.content)
    assert set(found) == {"name", "age"}
    assert type(found["age"]) is int
    free = client.generate("any", "Give me a JSON object.", format="json", think=think, options=GREEDY)
    assert isinstance(json.loads(free.response), dict)


def test_logprobs(client: Any) -> None:
    whole = client.chat(**ASKED, think=False, logprobs=True, top_logprobs=2)
    assert "".join(entry.token for entry in whole.logprobs) == whole.message.content
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in whole.logprobs)
    parts = client.chat(**ASKED, think=False, logprobs=True, top_logprobs=2, stream=True)
    streamed = [entry for part in parts for entry in part.logprobs or ()]
    assert streamed == list(whole.logprobs)


def test_nothing_said_loads_the_model(http: httpx.Client, client: Any) -> None:
    for path, body in (
        ("/api/chat", {"model": "any"}),
        ("/api/chat", {"model": "any", "messages": [], "keep_alive": "5m"}),
        ("/api/generate", {"model": "any"}),
        ("/api/generate", {"model": "any", "prompt": "", "keep_alive": 0}),
    ):
        answer = http.post(path, json=body).json()
        assert (answer["done"], answer["done_reason"]) == (True, "load")
    assert client.generate("any").done_reason == "load"


def test_the_model_is_listed_and_described(client: Any, http: httpx.Client) -> None:
    (listed,) = client.list().models
    assert listed.model == "demo"
    assert listed.size > 1 << 20
    assert len(listed.digest) == 64
    assert listed.details.quantization_level == "Q4_K_M"
    (running,) = client.ps().models
    assert (running.model, running.context_length) == ("demo", 4096)
    shown = client.show("demo")
    assert {"completion", "tools", "thinking"} <= set(shown.capabilities)
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] == 4096
    assert "im_start" in shown.template
    assert shown.parameters.split()[:2] == ["temperature", "0.3"]
    version = http.get("/api/version").json()["version"]
    assert [part.isdigit() for part in version.split(".")] == [True] * 3


def test_errors_are_told_as_the_client_expects(client: Any) -> None:
    with pytest.raises(ollama.ResponseError, match=r"^options\.temperature is") as bad:
        client.chat(**ASKED | {"options": {"temperature": -1}})
    assert bad.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="not supported"):
        client.pull("demo")
