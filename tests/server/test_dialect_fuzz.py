"""Bodies with something wrong anywhere inside: each is read, or refused as a client's mistake; never another error."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen35_local.engine.engine import Engine
from qwen35_local.server.anthropic.request import count_tokens, read_message
from qwen35_local.server.body import Body
from qwen35_local.server.dialect import Asked
from qwen35_local.server.errors import refusal
from qwen35_local.server.limits import Limits
from qwen35_local.server.llama_cpp.completion import read_completion
from qwen35_local.server.llama_cpp.text import apply_template, detokenize, tokenize
from qwen35_local.server.log import Log
from qwen35_local.server.ollama.request import read_chat, read_generate
from qwen35_local.server.openai import chat, completions
from qwen35_local.server.service import Service

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
USE = {"type": "tool_use", "id": "t", "name": "look", "input": {"city": "Rome"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "is_error": False, "content": [{"type": "text", "text": "1"}]}
CALL = {"id": "t", "type": "function", "function": {"name": "look", "arguments": {"city": "Rome"}}}
FUNCTION = {"type": "function", "function": {"name": "look", "description": "d", "parameters": CITY}}
ANTHROPIC = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "s"}],
    "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, USE]},
        {"role": "user", "content": [RESULT, {"type": "text", "text": "b"}]},
    ],
    "tools": [{"name": "look", "description": "d", "input_schema": CITY}],
    "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 9, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": CITY}},
    "stop_sequences": ["x"],
    "temperature": 0.5,
    "top_k": 3,
    "stream": True,
}
TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [CALL]},
    {"role": "tool", "tool_name": "look", "content": "1"},
]
OLLAMA = {
    "model": "m",
    "messages": TURNS,
    "tools": [FUNCTION],
    "think": "low",
    "format": CITY,
    "options": {"temperature": 0.5, "num_predict": 9, "stop": ["x"], "seed": 3, "num_ctx": 99, "top_k": 3},
    "logprobs": True,
    "top_logprobs": 2,
    "keep_alive": "5m",
}
GENERATE = {"model": "m", "prompt": "p", "system": "s", "raw": False, "options": {"stop": "x"}, "format": "json"}
COMPLETION = {"prompt": ["x", 5], "n_predict": 9, "logit_bias": [[5, 1.0], [6, False]], "stop": ["x"], "n_probs": 2}
CHAT = {"model": "m", "messages": TURNS, "tools": [FUNCTION], "stop": "x", "logit_bias": {"5": 1}, "n": 2}
READERS: list[tuple[Callable[[Body, Service], Asked | bytes], dict[str, Any]]] = [
    (read_message, ANTHROPIC),
    (count_tokens, ANTHROPIC),
    (read_chat, OLLAMA),
    (read_generate, GENERATE),
    (read_completion, COMPLETION),
    (tokenize, {"content": "x", "with_pieces": True, "add_special": True}),
    (detokenize, {"tokens": [1, 2]}),
    (apply_template, {"messages": TURNS, "tools": [FUNCTION], "chat_template_kwargs": {"enable_thinking": True}}),
    (chat.read, CHAT),
    (completions.read, {"prompt": "x", "max_tokens": 9, "logprobs": 2}),
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from(["<|im_end|>", "</think>", "assistant", "tool_result", "json_schema", "\ud800"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "name", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything inside a value, by keys and indices."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, child in inner for place in ((*way, key), *places(child, (*way, key)))]


def altered(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    """A copy with `new` at that place."""
    if not way:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[way[0]] = altered(copy[way[0]], way[1:], new)
    return copy


@pytest.fixture(scope="module")
def service(demo_engine: Engine) -> Service:
    return Service(demo_engine, "demo", Limits(), Log(lambda line: None))


@pytest.mark.parametrize(("read", "body"), READERS, ids=[read.__module__.rpartition(".")[2] for read, _ in READERS])
def test_a_body_that_is_right_is_read(service: Service, read: Callable[..., Any], body: dict[str, Any]) -> None:
    assert isinstance(read(Body(body), service), Asked | bytes)


@settings(max_examples=600)
@given(st.data())
def test_whatever_is_wrong_is_the_clients_mistake(service: Service, data: st.DataObject) -> None:
    read, body = data.draw(st.sampled_from(READERS))
    for _ in range(data.draw(st.integers(1, 2))):
        body = altered(body, data.draw(st.sampled_from(places(body))), data.draw(VALUES))
    try:
        asked = read(Body(body), service)
    except Exception as error:
        refused = refusal(error)
        assert refused.status == 400, repr(error)
        assert refused.message
    else:
        assert isinstance(asked, Asked | bytes)
