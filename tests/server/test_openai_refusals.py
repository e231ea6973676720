"""What a request of OpenAI's API can have wrong: each gives a 4xx that names the field."""

from typing import Any

import httpx
import pytest

HI: list[Any] = [{"role": "user", "content": "Hi"}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
DEEP: Any = {}
for _ in range(200):
    DEEP = {"a": DEEP}

NUMBERS = {
    "temperature": [-1, "hot", True, [], {}, 1e9],
    "top_p": [-0.1, 1.1, "x", False],
    "top_k": [-1, 1.5, "x", 2**40],
    "min_p": [-1, 2, "x"],
    "presence_penalty": ["x", 1e6, []],
    "frequency_penalty": ["x", -1e6, {}],
    "repetition_penalty": [0, -1, "x"],
    "repeat_penalty": [0, "x"],
    "penalty_last_n": [-2, "x", 1.5],
    "seed": ["x", 1.5, 2**64, True],
    "n": [0, -1, 129, 1.5, "x", True],
    "stop": [1, {}, [1], ["x", ""], ["x"] * 17, ["x" * 257], "x" * 257],
    "user": [1, [], {}],
    "json_schema": [1, "x", []],
    "guided_regex": [1, []],
    "guided_choice": ["x", [], [1]],
    "guided_json": [1, []],
    "logit_bias": ["x", 1, {"x": 1}, {"99999999": 1}, {"1": "x"}, {"1": 1e9}, {"-1": 1}, [1], [[1]], {"9" * 5000: 1}],
    "typical_p": [0.5],
    "mirostat": [1, 2],
    "dry_multiplier": [0.8],
    "xtc_probability": [0.5],
    "dynatemp_range": [0.5],
    "ignore_eos": [True],
    "min_tokens": [5],
    "stop_token_ids": [[5]],
    "best_of": [2],
    "use_beam_search": [True],
    "grammar": ['root ::= "x"', 1, "%llguidance {}\nstart: ("],
    "guided_grammar": [1, 'root ::= "x"'],
    "guided_whitespace_pattern": ["x"],
    "structured_outputs": [1, {"structural_tag": "{}"}, {"grammar": 1}, {"json_object": "x"}],
    "samplers": [1, [1], ["temperature"], ["top_k", "top_p", "temperature"], "tkpm"],
    "min_keep": [3],
    "skip_special_tokens": [False],
    "documents": [[{"title": "x"}]],
    "logits_processors": [["x"]],
    "stop_regex": ["x"],
    "n_cmpl": [2],
    "prompt_logprobs": [1],
    "stream": ["yes", 1, 0, []],
    "stream_options": ["x", 1, []],
}
CHAT = NUMBERS | {
    "messages": [
        None,
        "x",
        {},
        [],
        [1],
        ["x"],
        [{}],
        [{"role": "robot", "content": "x"}],
        [{"role": 1}],
        [{"role": "user", "content": 1}],
        [{"role": "user", "content": {}}],
        [{"role": "user", "content": [1]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        [{"role": "user", "content": [{"type": "file", "file": {}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
        [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, *HI],
        [{"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
        [*HI, {"role": "assistant", "tool_calls": 1}],
        [*HI, {"role": "assistant", "tool_calls": [1]}],
        [*HI, {"role": "assistant", "tool_calls": [{}]}],
        [*HI, {"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}],
        [*HI, {"role": "assistant", "content": "x", "reasoning_content": 1}],
        [*HI, {"role": "tool", "content": "x", "tool_call_id": 1}],
        [*HI, {"role": "assistant", "content": "x", "prefix": 1}],
        HI * 10_001,
    ],
    "max_tokens": [0, -2, 1.5, "x", True, 2**31],
    "max_completion_tokens": [0, -2, 1.5, "x"],
    "logprobs": [1, "yes", []],
    "top_logprobs": [5, -1, 21, "x"],
    "tools": [
        "x",
        {},
        [1],
        [{}],
        [{"type": "x"}],
        [{"type": "function"}],
        [{"type": "function", "function": {}}],
        [{"type": "function", "function": {"name": 1}}],
        [{"type": "function", "function": {"name": ""}}],
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "custom", "custom": {"name": "f", "format": {"type": "xml"}}}],
        [{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar"}}}],
        [{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "definition": "start: ("}}}],
        [{"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "regex", "definition": "("}}],
        [{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "syntax": "x", "definition": "a"}}}],
        [{"type": "function", "function": {"name": "a>b"}}],
        [{"type": "function", "function": {"name": "f", "parameters": 1}}],
        [{"type": "function", "function": {"name": "f", "description": 1}}],
        [FUNCTION, FUNCTION],
        [FUNCTION] * 1001,
    ],
    "tool_choice": ["required", "x", 1, {"type": "function", "function": {"name": "f"}}],
    "parallel_tool_calls": ["x", 1],
    "response_format": [
        "json",
        1,
        {},
        {"type": 1},
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": 1},
        {"type": "json_schema", "json_schema": {"name": "x"}},
        {"type": "json_schema", "json_schema": {"schema": "x"}},
        {"type": "json_object", "schema": 1},
    ],
    "reasoning_effort": ["x", 1, True],
    "reasoning": [1, {"effort": "x"}, {"max_tokens": "x"}, {"enabled": "x"}, {"exclude": 1}],
    "thinking": [1, "x", {"type": "x"}, {"budget_tokens": "x"}],
    "enable_thinking": ["x", 1],
    "think": ["x", 1, {}],
    "include_reasoning": ["x", 1],
    "reasoning_format": ["none", "deepseek-legacy", 1],
    "thinking_budget": ["x", -2, 1.5],
    "chat_template_kwargs": [1, {"enable_thinking": "x"}, {"preserve_thinking": 1}, {"thinking": 1}],
    "modalities": [["audio"], "text", [1]],
    "audio": [{}],
    "functions": [[{"name": "f"}]],
    "reasoning_budget_message": ["Enough.", ""],
    "function_call": [{"name": "f"}],
    "web_search_options": [{}],
    "continue_final_message": [True],
    "add_generation_prompt": [False],
    "return_progress": ["x"],
}
COMPLETIONS = NUMBERS | {
    "prompt": [None, "", 1, {}, [], [""], [[]], ["x", 1], [-1], [1.5], [10**9], [[True]], ["x"] * 129, [[1, "x"]]],
    "max_tokens": [0, -2, "x"],
    "logprobs": [-1, 21, "x", True],
    "suffix": ["x"],
    "echo": ["x", 1],
    "tools": [[FUNCTION]],
}
SHARED = ("temperature", "top_p", "user", "stream", "stream_options", "parallel_tool_calls", "reasoning_effort")
RESPONSES = {key: CHAT[key] for key in SHARED} | {
    "input": [
        None,
        1,
        {},
        [],
        [1],
        [{"type": "x"}],
        [{"role": "robot", "content": "x"}],
        [{"role": "user", "content": 1}],
        [{"type": "function_call", "name": "f"}],
        [{"type": "function_call", "call_id": "c"}],
        [{"type": "function_call_output", "output": "x"}],
        [{"type": "function_call_output", "call_id": "c", "output": 1}],
        [{"type": "reasoning", "content": 1}],
        [{"type": "item_reference", "id": "x"}],
        [{"type": "web_search_call", "id": "x"}],
    ],
    "instructions": [1, []],
    "max_output_tokens": [0, -2, "x"],
    "previous_response_id": [1, "resp_unknown"],
    "store": ["x", 1],
    "truncation": ["x", 1],
    "background": [True],
    "conversation": ["conv_1"],
    "prompt": [{"id": "x"}],
    "text": [1, {"format": 1}, {"format": {"type": "xml"}}, {"format": {"type": "json_schema", "name": "x"}}],
    "tools": [[1], [{"type": "file_search"}], [{"type": "function"}], [{"type": "mcp", "server_label": "x"}]],
    "tool_choice": ["required", {"type": "file_search"}],
    "top_logprobs": [-1, 21],
    "include": ["x", [1]],
    "metadata": [1, []],
    "stop": [["x"]],
    "n": [2],
}
NEEDED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": 1},
    "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 1},
}
TABLES = dict(zip(NEEDED, (CHAT, COMPLETIONS, RESPONSES), strict=True))
CASES = [(path, key, value) for path, table in TABLES.items() for key, values in table.items() for value in values]


def test_there_are_many() -> None:
    assert len(CASES) > 300


@pytest.mark.parametrize("path", NEEDED)
def test_what_the_table_adds_to_is_right(http: httpx.Client, path: str) -> None:
    assert http.post(path, json=NEEDED[path]).status_code == 200


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0][4:]}-{CASES[n][1]}-{n}")
def test_refused_by_name(http: httpx.Client, number: int) -> None:
    path, key, value = CASES[number]
    answer = http.post(path, json=NEEDED[path] | {key: value})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(key), error
    assert error["message"]
    assert "Traceback" not in error["message"]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "g"}},
        {"type": "function"},
        {"type": "x"},
        {"type": "allowed_tools"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "x", "tools": [FUNCTION]}},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        {"type": "allowed_tools", "mode": "auto", "tools": [1]},
    ],
)
def test_choice_of_a_tool(http: httpx.Client, choice: Any) -> None:
    answer = http.post(
        "/v1/chat/completions", json={"messages": HI, "max_tokens": 1, "tools": [FUNCTION], "tool_choice": choice}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("tool_choice")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000, b"{}"],
)
@pytest.mark.parametrize("path", NEEDED)
def test_body_that_is_no_request(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_deep_body(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": HI, "metadata": DEEP})
    assert answer.status_code == 400
    assert "deep" in answer.json()["error"]["message"]


def test_many_values(http: httpx.Client) -> None:
    """Two bytes of text would take sixty of memory."""
    body = b'{"messages": [' + b"[]," * 2_100_000 + b"[]]}"
    answer = http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert "values" in answer.json()["error"]["message"]


def test_what_is_not_known_is_named_once(http: httpx.Client, server: Any) -> None:
    body = {"messages": HI, "max_tokens": 1, "quite_new\n": 1}
    for _ in range(2):
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    told = [line for line in server.lines if "quite_new" in line]
    assert len(told) == 1
    assert "\n" not in told[0]


@pytest.mark.parametrize("name", ["embeddings", "rerank", "images/generations", "audio/speech", "files"])
def test_what_is_not_offered(http: httpx.Client, name: str) -> None:
    answer = http.post(f"/v1/{name}", json={})
    assert answer.status_code == 501
    assert name in answer.json()["error"]["message"]
