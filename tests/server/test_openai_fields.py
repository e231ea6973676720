"""Fields of OpenAI's requests that clients and other servers know beside those of its own client: each is followed."""

from typing import Any

import httpx
import pytest
from conversations import events_of
from serving import Served

SUM = [{"role": "user", "content": "What is 12 + 30?"}]
THINKING = "12 + 30. Ones: 2 + 0 = 2, write 2. Tens: 1 + 3 = 4, write 4. So 42."
ANSWER = "12 + 30 = 42."


def chat(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/chat/completions", json={"messages": SUM, "temperature": 0} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["choices"][0]
    return found


def deltas(http: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
    body = {"messages": SUM, "temperature": 0, "stream": True} | fields
    return [data["choices"][0] for _, data in events_of(http.post("/v1/chat/completions", json=body).text)]


def spelled(told: Any) -> str:
    return "".join(entry["token"] for entry in told)


@pytest.mark.parametrize(
    ("fields", "thinks"),
    [
        ({}, True),
        ({"think": False}, False),
        ({"think": True, "reasoning_effort": "none"}, True),
        ({"think": "none"}, False),
        ({"think": "low"}, True),
        ({"chat_template_kwargs": {"thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning": {"enabled": False}}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking_token_budget": 0}, False),
    ],
)
def test_every_spelling_of_the_switch(http: httpx.Client, fields: dict[str, Any], thinks: bool) -> None:
    message = chat(http, **fields)["message"]
    assert message["content"] == ANSWER
    assert message.get("reasoning_content") == (THINKING if thinks else None)


@pytest.mark.parametrize("key", ["thinking_budget", "thinking_budget_tokens", "thinking_token_budget"])
def test_a_budget(http: httpx.Client, key: str) -> None:
    choice = chat(http, **{key: 5, "max_tokens": 200})
    assert choice["message"]["reasoning_content"].startswith("12 + 3\n\n")
    assert "budget of 5 tokens" in choice["notes"][0]


@pytest.mark.parametrize("fields", [{"include_reasoning": False}, {"reasoning": {"exclude": True}}])
def test_thinking_that_is_not_to_be_told(http: httpx.Client, fields: dict[str, Any]) -> None:
    ask = {"logprobs": True, **fields}
    choice = chat(http, **ask)
    assert choice["message"] == {"role": "assistant", "content": ANSWER, "refusal": None}
    assert spelled(choice["logprobs"]["content"]).strip("\n") == ANSWER
    pieces = deltas(http, **ask)
    assert all(piece["delta"].keys() <= {"role", "content"} for piece in pieces)
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == ANSWER
    told = [entry for piece in pieces if piece["logprobs"] for entry in piece["logprobs"]["content"]]
    assert told == choice["logprobs"]["content"]


LARK = 'start: "yes" | "no"'


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_grammar": LARK},
        {"structured_outputs": {"grammar": LARK}},
        {"structured_outputs": {"regex": "yes|no"}},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"grammar": "%llguidance {}\n" + LARK},
    ],
)
def test_grammars(http: httpx.Client, fields: dict[str, Any]) -> None:
    message = chat(http, **fields)["message"]
    assert message["content"] in ("yes", "no")
    assert message["reasoning_content"] == THINKING  # which stays free
    text = http.post("/v1/completions", json={"prompt": "Is it?", "temperature": 0} | fields).json()["choices"][0][
        "text"
    ]
    assert text in ("yes", "no")
    if "grammar" in fields:
        body = {"prompt": "Is it?", "temperature": 0, "n_predict": 9} | fields
        assert http.post("/completion", json=body).json()["content"] in ("yes", "no")


def test_an_object_of_json(http: httpx.Client) -> None:
    said = [{"role": "user", "content": "Ann is 31 years old. Answer in JSON."}]
    choice = chat(http, messages=said, structured_outputs={"json_object": True}, max_tokens=100)
    assert choice["message"]["content"].startswith("{")


@pytest.mark.parametrize("word", ["prefix", "partial"])
def test_a_message_that_is_marked_as_begun(http: httpx.Client, word: str) -> None:
    begun = [*SUM, {"role": "assistant", "content": "12 + 30 =", word: True}]
    assert chat(http, messages=begun)["message"]["content"] == " 42."
    begun[-1][word] = False
    assert chat(http, messages=begun)["message"]["content"] != " 42."


@pytest.mark.parametrize("kind", ["thinking", "reasoning"])
def test_thinking_comes_back_as_a_part_of_the_content(http: httpx.Client, kind: str) -> None:
    parts = [{"type": kind, "thinking" if kind == "thinking" else "text": "Hm."}, {"type": "text", "text": "12 + 30 ="}]
    begun = [*SUM, {"role": "assistant", "content": parts, "prefix": True}]
    as_text = [*SUM, {"role": "assistant", "content": "12 + 30 =", "reasoning_content": "Hm.", "prefix": True}]
    prompts = [
        http.post("/apply-template", json={"messages": turns[:2]}).json()["prompt"] for turns in (begun, as_text)
    ]
    assert prompts[0] == prompts[1] and "Hm." in prompts[0]


def test_order_of_samplers(http: httpx.Client) -> None:
    for order in (["penalties", "dry", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"], "edskypmxt", []):
        assert chat(http, samplers=order)["message"]["content"] == ANSWER


@pytest.mark.parametrize("fields", [{}, {"reasoning": {"effort": "none"}}, {"thinking_budget": 5}])
def test_logprobs_of_a_response_are_those_of_its_text(http: httpx.Client, fields: dict[str, Any]) -> None:
    body = {"input": SUM, "temperature": 0, "top_logprobs": 1, "max_output_tokens": 200} | fields
    (part,) = http.post("/v1/responses", json=body).json()["output"][-1]["content"]
    assert spelled(part["logprobs"]) == part["text"]
    events = [data for _, data in events_of(http.post("/v1/responses", json=body | {"stream": True}).text)]
    told = [entry for data in events if data["type"] == "response.output_text.delta" for entry in data["logprobs"]]
    assert told == part["logprobs"]
    assert events[-1]["response"]["output"][-1]["content"] == [part]


def test_an_item_is_referred_to(http: httpx.Client) -> None:
    """As the AI SDK does where responses are stored."""
    first = http.post("/v1/responses", json={"input": "What is 12 + 30?", "temperature": 0}).json()
    question = {"role": "user", "content": "Thanks!"}
    said = [{"role": "user", "content": "What is 12 + 30?"}]
    whole = http.post("/v1/responses", json={"input": [*said, *first["output"], question], "temperature": 0}).json()
    for kind in ({"type": "item_reference"}, {}):
        referred = [kind | {"id": item["id"]} for item in first["output"]]
        body = {"input": [*said, *referred, question], "temperature": 0}
        answer = http.post("/v1/responses", json=body).json()
        assert answer["output"][-1]["content"] == whole["output"][-1]["content"]
        assert answer["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    http.delete(f"/v1/responses/{first['id']}")
    refused = http.post("/v1/responses", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1].id")


def test_a_reply_of_thinking_alone_is_told_in_the_log(http: httpx.Client, server: Served) -> None:
    before = server.mark()
    assert chat(http, max_tokens=8)["message"]["content"] == ""
    chat(http, max_tokens=8, think=False)
    told = ["no answer" in line for line in server.lines_since(before)]
    assert told == [True, False]


def test_what_is_not_known_inside_is_named_once(http: httpx.Client, server: Served) -> None:
    function = {"name": "f", "strict": True, "odd_one": 1}
    body = {
        "messages": [*SUM, {"role": "assistant", "content": "42.", "odd_two": 1}, *SUM],
        "max_tokens": 1,
        "tools": [{"type": "function", "function": function | {"name": f"f{n}"}} for n in range(3)],
        "stream_options": {"odd_three": 1, "include_usage": True},
        "chat_template_kwargs": {"odd_four": 1, "odd_null": None},
    }
    for _ in range(2):
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    told = [line.partition("'")[2].partition("'")[0] for line in server.lines if "odd_" in line]
    assert sorted(told) == [
        "chat_template_kwargs.odd_four",
        "messages[].odd_two",
        "stream_options.odd_three",
        "tools[].function.odd_one",
    ]
    block = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}, "odd_five": 1}
    asked = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [block, block]}]}
    for _ in range(2):
        assert http.post("/v1/messages", json=asked).status_code == 200
    assert [line for line in server.lines if "odd_five" in line] == [
        "/v1/messages: the field 'messages[].content[].odd_five' is not known and has no effect"
    ]
    assert not [line for line in server.lines if "cache_control" in line or "'tools[].function.strict'" in line]
