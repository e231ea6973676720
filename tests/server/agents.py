"""Requests in the shapes that agents send, of our own writing: what each puts into a first turn, and how it sends the
reply back with the next."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from conversations import WEATHER_QUESTION, events_of

RESULT = json.dumps({"sky": "sunny", "temperature": 21})
RULES = "You are a helper in a terminal. You read files before you change them. You say in a line what you did."
_CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "Its name."}}, "required": ["city"]}
_PATH = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "from_line": {"type": "integer", "minimum": 1}},
    "required": ["path"],
    "additionalProperties": False,
}
TOOLS = [
    ("read_file", "Reads a file of the project.", _PATH),
    ("get_weather", "Get the weather in a city.", _CITY),
]
_CALLED = "get_weather"


@dataclass(frozen=True)
class Turn:
    """What a turn cost, and what the agent keeps of the reply: `called` is the tool, if one was."""

    prompt_tokens: int
    cached_tokens: int
    kept: list[Any]
    called: str | None


@dataclass(frozen=True)
class Agent:
    """`ask` takes what was said so far; `result` makes of the kept reply what its tool gave; `remark` is the user's."""

    name: str
    ask: Callable[[httpx.Client, list[Any]], Turn]
    result: Callable[[list[Any]], list[Any]]
    remark: Callable[[str], list[Any]]


def _message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


_CACHED = {"cache_control": {"type": "ephemeral"}}
_requests = iter(range(10**6))


def _ask_claude_code(http: httpx.Client, said: list[Any]) -> Turn:
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 300,
        "stream": True,
        "temperature": 0,
        "system": [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.36.abc; cch={next(_requests):05x};"},
            {"type": "text", "text": "You are an agent.", **_CACHED},
            {"type": "text", "text": RULES, **_CACHED},
        ],
        "messages": said,
        "tools": [{"name": n, "description": d, "input_schema": schema} for n, d, schema in TOOLS],
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "user_0_session_1"},
    }
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "interleaved-thinking-2025-05-14"}
    blocks: list[dict[str, Any]] = []
    usage: dict[str, int] = {}
    for name, data in events_of(http.post("/v1/messages?beta=true", json=body, headers=headers).text):
        if name == "content_block_start":
            block = data["content_block"]
            blocks.append(block | {"input": ""} if block["type"] == "tool_use" else block)
        elif name == "content_block_delta":
            _grow(blocks[-1], data["delta"])
        elif name == "message_delta":
            usage = data["usage"]
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"])
    cached = usage["cache_read_input_tokens"]
    called = next((block["name"] for block in blocks if block["type"] == "tool_use"), None)
    return Turn(usage["input_tokens"] + cached, cached, [_message("assistant", blocks)], called)


def _grow(block: dict[str, Any], delta: dict[str, Any]) -> None:
    field = {"input_json_delta": "partial_json", "text_delta": "text", "thinking_delta": "thinking"}
    key = field.get(delta["type"], "signature")
    place = "input" if key == "partial_json" else key
    block[place] += delta[key]


def _claude_result(kept: list[Any]) -> list[Any]:
    use = next(block for block in kept[0]["content"] if block["type"] == "tool_use")
    return [_message("user", [{"type": "tool_result", "tool_use_id": use["id"], "content": RESULT, **_CACHED}])]


def _ask_codex(http: httpx.Client, said: list[Any]) -> Turn:
    body = {
        "model": "gpt-5-codex",
        "instructions": RULES,
        "input": [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "Ask before you run."}],
            },
            *said,
        ],
        "tools": [
            {"type": "function", "name": n, "description": d, "strict": False, "parameters": s} for n, d, s in TOOLS
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
        "prompt_cache_key": "0199-aa",
        "temperature": 0,
        "max_output_tokens": 300,
    }
    told = events_of(http.post("/v1/responses", json=body).text)
    items = [data["item"] for name, data in told if name == "response.output_item.done"]
    usage = next(data for name, data in told if name == "response.completed")["response"]["usage"]
    called = next((item["name"] for item in items if item["type"] == "function_call"), None)
    return Turn(usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"], items, called)


def _codex_result(kept: list[Any]) -> list[Any]:
    call = next(item for item in kept if item["type"] == "function_call")
    return [{"type": "function_call_output", "call_id": call["call_id"], "output": RESULT}]


def _openai_tools() -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": n, "description": d, "parameters": s}} for n, d, s in TOOLS]


def _ask_chat(http: httpx.Client, said: list[Any], system: Any, keeps: tuple[str, ...], **more: Any) -> Turn:
    """An OpenAI client that streams; `keeps`: the fields of a reply that it sends back."""
    body = {
        "model": "qwen",
        "messages": [_message("system", system), *said],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 300,
        **more,
    }
    reply: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: dict[int, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    for _, chunk in events_of(http.post("/v1/chat/completions", json=body).text):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for key in ("content", "reasoning_content"):
                if delta.get(key):
                    reply[key] = reply.get(key, "") + delta[key]
            for call in delta.get("tool_calls") or ():
                known = calls.setdefault(call["index"], {"type": "function", "function": {"name": "", "arguments": ""}})
                known |= {"id": call["id"]} if call.get("id") else {}
                for key in ("name", "arguments"):
                    known["function"][key] += call["function"].get(key) or ""
    if calls:
        reply["tool_calls"] = list(calls.values())
    kept = {key: value for key, value in reply.items() if key in keeps}
    called = next((call["function"]["name"] for call in calls.values()), None)
    return Turn(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], [kept], called)


def _ask_opencode(http: httpx.Client, said: list[Any]) -> Turn:
    keeps = ("role", "content", "tool_calls", "reasoning_content")
    return _ask_chat(http, said, RULES, keeps, tools=_openai_tools(), tool_choice="auto", reasoning_effort="high")


def _ask_qwen_code(http: httpx.Client, said: list[Any]) -> Turn:
    """It sends no thinking back."""
    system = [{"type": "text", "text": RULES, "cache_control": {"type": "ephemeral"}}]
    more = {"metadata": {"sessionId": "a", "promptId": "b"}, "vl_high_resolution_images": True, "top_p": 0.9}
    return _ask_chat(http, said, system, ("role", "content", "tool_calls"), tools=_openai_tools(), **more)


def _chat_result(kept: list[Any]) -> list[Any]:
    call = kept[0]["tool_calls"][0]
    return [{"role": "tool", "tool_call_id": call["id"], "content": RESULT}]


def _ask_cline(http: httpx.Client, said: list[Any]) -> Turn:
    """Tools are described in the prompt and written in the text, so that none is called as far as the server sees."""
    system = f"{RULES}\n\n# Tools\n<read_file><path>a path</path></read_file>\nUse one tool in each message."
    return _ask_chat(http, said, system, ("role", "content"))


def _ask_cline_ollama(http: httpx.Client, said: list[Any]) -> Turn:
    body = {"model": "qwen", "messages": [_message("system", RULES), *said], "tools": _openai_tools(), "think": False}
    options = {"num_ctx": 32768, "temperature": 0, "num_predict": 300}
    lines = http.post("/api/chat", json=body | {"options": options}).text.splitlines()
    parts = [json.loads(line) for line in lines]
    calls = [call for part in parts for call in part["message"].get("tool_calls", ())]
    reply = _message("assistant", "".join(part["message"]["content"] for part in parts)) | {"tool_calls": calls}
    called = calls[0]["function"]["name"] if calls else None
    return Turn(parts[-1]["prompt_eval_count"], -1, [reply], called)


def _ollama_result(kept: list[Any]) -> list[Any]:
    return [{"role": "tool", "tool_name": _CALLED, "content": RESULT}]


def _says(text: str) -> list[Any]:
    return [_message("user", text)]


def _says_in_parts(text: str) -> list[Any]:
    reminder = {"type": "text", "text": "<note>\nThe folder is empty.\n</note>"}
    return [_message("user", [reminder, {"type": "text", "text": text}])]


def _says_as_item(text: str) -> list[Any]:
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


CALLING = [
    Agent("Claude Code", _ask_claude_code, _claude_result, _says),
    Agent("Codex", _ask_codex, _codex_result, _says_as_item),
    Agent("opencode", _ask_opencode, _chat_result, _says),
    Agent("Qwen Code", _ask_qwen_code, _chat_result, _says),
    Agent("Cline by way of Ollama", _ask_cline_ollama, _ollama_result, _says),
]
"""Agents whose tools the server knows."""

TALKING = [Agent("Cline", _ask_cline, lambda kept: [], _says_in_parts), *CALLING]
QUESTION = WEATHER_QUESTION
