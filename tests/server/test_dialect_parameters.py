"""Bad parameters: each is a 4xx in the words of its dialect, which names the field."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

WRONG_NUMBERS: list[Any] = ["5", True, [], {}, [1], 1e300, -(2**70)]
WRONG_COUNTS: list[Any] = [*WRONG_NUMBERS, 1.5, 2**70]
WRONG_FLAGS: list[Any] = ["true", 1, 0, [], {}]
WRONG_TEXTS: list[Any] = [5, True, ["x"], {"x": 1}]
WRONG_LISTS: list[Any] = ["x", 5, True, {"x": 1}]
WRONG_OBJECTS: list[Any] = ["x", 5, True, [1]]
WRONG_ENTRIES: list[Any] = [["x"], [5], [None], [[]]]

ANTHROPIC = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
CHAT = {"model": "m", "stream": False, "messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 5}}
GENERATE = {"model": "m", "stream": False, "prompt": "Hi", "options": {"num_predict": 5}}
COMPLETION = {"prompt": "Hi", "n_predict": 5}
TOOL = {"name": "look", "input_schema": {"type": "object"}}

Case = tuple[str, dict[str, Any], str]


def cases() -> Iterator[Case]:
    """Path, body, and the field that the answer has to name."""
    yield from of_anthropic()
    yield from of_ollama()
    yield from of_llama_cpp()


def of_anthropic() -> Iterator[Case]:
    def wrong(field: str, values: list[Any], name: str = "") -> Iterator[Case]:
        for value in values:
            yield "/v1/messages", ANTHROPIC | {field: value}, name or field

    def said(content: Any, name: str, role: str = "user") -> Case:
        after = [{"role": "user", "content": "?"}] if role == "assistant" else []
        return "/v1/messages", ANTHROPIC | {"messages": [{"role": role, "content": content}, *after]}, name

    yield from wrong("model", [None, *WRONG_TEXTS])
    yield from wrong("max_tokens", [None, 0, -1, *WRONG_COUNTS])
    yield from wrong("temperature", [-0.1, *WRONG_NUMBERS])
    yield from wrong("top_p", [-0.1, 1.1, *WRONG_NUMBERS])
    yield from wrong("top_k", [-1, *WRONG_COUNTS])
    yield from wrong("stream", WRONG_FLAGS)
    yield from wrong("stop_sequences", [*WRONG_LISTS, [""], [5], ["x"] * 17, ["x" * 300]])
    yield from wrong("system", [5, True, {"x": 1}, ["x"], [{}], [{"type": "text"}], [{"type": "image"}]])
    yield from wrong("messages", [None, [], *WRONG_LISTS, *WRONG_ENTRIES])
    yield from wrong("messages", [[{}], [{"role": "user"}], [{"role": "bishop", "content": "x"}]], "messages[0]")
    use = {"type": "tool_use", "id": "u", "name": "n", "input": {}}
    yield from wrong("messages", [[{"role": "user", "content": "a"}, {"role": "assistant", "content": [use]}]])
    for block in [{}, {"type": 5}, {"type": "text"}, {"type": "text", "text": 5}, {"type": "zebra"}, "x", 5, None]:
        yield said([block], "messages[0].content[0]")
        yield said([block], "messages[0].content[0]", "assistant")
    yield said([{"type": "image", "source": {"type": "base64", "data": "x"}}], "messages[0].content[0].type")
    yield said([{"type": "document", "source": {"type": "base64", "data": "x"}}], "messages[0].content[0].source")
    yield said([{"type": "tool_result"}], "tool_use_id")
    yield said([{"type": "tool_result", "tool_use_id": "t", "content": 5}], "messages[0].content[0].content")
    yield said([{"type": "tool_result", "tool_use_id": "t", "is_error": "yes"}], "is_error")
    yield said([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}], "content[0].type")
    for use in [
        {},
        {"id": "t"},
        {"id": "t", "name": ""},
        {"id": "t", "name": "n"},
        {"id": "t", "name": "n", "input": 1},
    ]:
        yield said([{"type": "tool_use", **use}], "messages[0].content[0]", "assistant")
    yield from wrong("tools", [*WRONG_LISTS, *WRONG_ENTRIES, [{}], [TOOL | {"name": ""}], [TOOL | {"name": 5}]])
    yield from wrong("tools", [[{"name": "n"}], [TOOL | {"input_schema": 5}], [TOOL | {"description": 5}]], "tools[0]")
    yield from wrong("tools", [[{"type": "web_search_20250305", "name": "web_search"}]], "tools[0].type")
    yield from wrong("tool_choice", [*WRONG_OBJECTS, {}, {"type": "any"}, {"type": "zebra"}, {"type": "tool"}])
    for choice in (
        {"type": "tool", "name": "other"},
        {"type": "tool"},
        {"type": "auto", "disable_parallel_tool_use": 1},
    ):
        yield "/v1/messages", ANTHROPIC | {"tools": [TOOL], "tool_choice": choice}, "tool_choice."
    yield from wrong("thinking", [*WRONG_OBJECTS, {}, {"type": "zebra"}, {"type": "enabled"}])
    yield from wrong("thinking", [{"type": "enabled", "budget_tokens": n} for n in (0, -1, 1.5, "9")], "budget_tokens")
    yield from wrong("output_config", [*WRONG_OBJECTS, {"effort": "zebra"}, {"effort": 3}, {"format": 3}])
    yield from wrong(
        "output_config", [{"format": f} for f in ({}, {"type": "xml"}, {"type": "json_schema"})], "format."
    )
    yield from wrong("mcp_servers", [[{"type": "url", "url": "https://example.com"}]])
    yield from wrong("container", ["c", {"id": "c"}])
    for body in ({}, {"model": "m"}, {"model": "m", "messages": []}):
        yield "/v1/messages/count_tokens", body, "model" if not body else "messages"


def of_ollama() -> Iterator[Case]:
    def wrong(field: str, values: list[Any], name: str = "") -> Iterator[Case]:
        for value in values:
            yield "/api/chat", CHAT | {field: value}, name or field

    def option(field: str, values: list[Any]) -> Iterator[Case]:
        for value in values:
            yield "/api/generate", GENERATE | {"options": {field: value}}, f"options.{field}"

    yield from wrong("model", [None, "", *WRONG_TEXTS])
    yield from wrong("stream", WRONG_FLAGS)
    yield from wrong("messages", [*WRONG_LISTS, *WRONG_ENTRIES])
    for message in (
        {},
        {"role": 5},
        {"role": "bishop"},
        {"role": "user", "content": 5},
        {"role": "user", "images": ["aGk="]},
        {"role": "user", "tool_calls": [{"function": {"name": "n"}}]},
        {"role": "assistant", "thinking": 5},
        {"role": "assistant", "tool_calls": 5},
        {"role": "assistant", "tool_calls": [{}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": ""}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "n", "arguments": "text"}}]},
    ):
        yield from wrong("messages", [[message]], "messages[0].")
    for function in (5, {}, {"name": 5}, {"name": "n", "parameters": 5}):
        yield from wrong("tools", [[{"function": function}]], "tools[0].")
    yield from wrong("tools", [[{}]], "tools[0].")
    yield from wrong("tools", WRONG_LISTS)
    yield from wrong("think", [5, [], {}, "zebra"])
    yield from wrong("format", [5, True, [], "xml"])
    yield from wrong("keep_alive", [True, [], {}])
    yield from wrong("logprobs", WRONG_FLAGS)
    yield from wrong("top_logprobs", [3, -1, 21, *WRONG_COUNTS])
    yield from wrong("options", WRONG_OBJECTS)
    yield from option("temperature", [-0.1, *WRONG_NUMBERS])
    yield from option("top_p", [-0.1, 1.1, *WRONG_NUMBERS])
    yield from option("min_p", [-0.1, 1.1, *WRONG_NUMBERS])
    yield from option("repeat_penalty", [0, -1, *WRONG_NUMBERS])
    yield from option("presence_penalty", WRONG_NUMBERS)
    yield from option("frequency_penalty", WRONG_NUMBERS)
    for field in ("top_k", "repeat_last_n", "num_predict", "num_ctx", "seed"):
        yield from option(field, WRONG_COUNTS)
    yield from option("mirostat", [1, 2])
    yield from option("tfs_z", [0.5])
    yield from option("typical_p", [0.5])
    yield from option("stop", [5, [5], {}, ["x"] * 17])
    for field in ("prompt", "system", "suffix", "template"):
        for value in WRONG_TEXTS:
            yield "/api/generate", GENERATE | {field: value}, field
    for field, value in (("suffix", "x"), ("template", "{{ .Prompt }}"), ("context", [1, 2]), ("images", ["aGk="])):
        yield "/api/generate", GENERATE | {field: value}, field
    for value in WRONG_FLAGS:
        yield "/api/generate", GENERATE | {"raw": value}, "raw"
    for body in ({}, {"model": 5}):
        yield "/api/show", body, "model"


def of_llama_cpp() -> Iterator[Case]:
    def wrong(field: str, values: list[Any]) -> Iterator[Case]:
        for value in values:
            yield "/completion", COMPLETION | {field: value}, field

    yield from wrong("prompt", [None, "", [], 5, True, {}, [True], [-1], [2**31], [1e9], [[1]], ["x", None]])
    yield from wrong("n_predict", [0, -3, *WRONG_COUNTS])
    yield from wrong("temperature", [-0.1, *WRONG_NUMBERS])
    yield from wrong("repeat_penalty", [0, *WRONG_NUMBERS])
    yield from wrong("n_probs", [-1, 1001, *WRONG_COUNTS])
    yield from wrong("stream", WRONG_FLAGS)
    yield from wrong("return_progress", WRONG_FLAGS)
    yield from wrong("stop", [5, [5], {}])
    yield from wrong("grammar", ['root ::= "x"', 5])
    yield from wrong("json_schema", ["x", 5, [1]])
    yield from wrong("prompt", [["a", "b"]])
    yield from wrong("logit_bias", [5, "x", [5], [[1]], [["a", 1, 2]], [[-1, 1]], [[1, "x"]], [[1, True]], {"-1": 1}])
    yield from wrong("n", [0, 2, "1"])
    for field, value in (
        ("mirostat", 1),
        ("typical_p", 0.5),
        ("dynatemp_range", 1),
        ("xtc_probability", 0.5),
        ("dry_multiplier", 1),
        ("top_n_sigma", 2),
        ("n_indent", 4),
        ("t_max_predict_ms", 100),
        ("post_sampling_probs", True),
        ("ignore_eos", True),
        ("lora", [{"id": 0, "scale": 1}]),
    ):
        yield from wrong(field, [value])
    for value in (None, *WRONG_TEXTS):
        yield "/tokenize", {"content": value}, "content"
    for field in ("add_special", "parse_special", "with_pieces"):
        yield "/tokenize", {"content": "x", field: "yes"}, field
    for value in WRONG_TEXTS:
        yield "/tokenize", {"prompt": value}, "prompt"
    for field in ("add_special_tokens", "return_token_strs"):
        yield "/tokenize", {"prompt": "x", field: "yes"}, field
    for value in (None, 5, "x", ["x"], [-1], [2**31], [True], [1.5]):
        yield "/detokenize", {"tokens": value}, "tokens"
    for value in (None, 5, "x", ["x"], [{"role": "bishop"}]):
        yield "/apply-template", {"messages": value}, "messages"


CASES = list(cases())


def test_there_are_enough() -> None:
    assert len(CASES) >= 450


@pytest.mark.parametrize(
    ("path", "body", "field"), CASES, ids=[f"{path[1:]}-{field}-{n}" for n, (path, _, field) in enumerate(CASES)]
)
def test_is_refused_by_name(http: httpx.Client, path: str, body: dict[str, Any], field: str) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    message = message_of(path, answer.json())
    assert field in message
    assert len(message) < 400
    assert message.endswith(".")


def message_of(path: str, body: dict[str, Any]) -> str:
    """The sentence in an error of the path's dialect."""
    if path.startswith("/api/"):
        assert list(body) == ["error"]
        return str(body["error"])
    error = body["error"]
    assert error["type"] == "invalid_request_error"
    if path.startswith("/v1/messages"):
        assert body["type"] == "error"
    else:
        assert error["code"] == 400
    return str(error["message"])
