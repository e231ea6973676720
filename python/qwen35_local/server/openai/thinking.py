"""How long to think, in every spelling that clients of OpenAI's API use."""

from typing import TypeVar

from qwen35_local.engine.thinking import CLOSING
from qwen35_local.fields import FLAG, TEXT, integer
from qwen35_local.server.body import Body
from qwen35_local.server.thinking import EFFORTS, Thinking

T = TypeVar("T")
_TOKENS = integer(-1, 2**31 - 1)


def read_thinking(body: Body) -> tuple[Thinking, bool | None]:
    """The setting, and whether the thinking of finished turns is kept (`preserve_thinking`). Raises Refused."""
    thinking = _effort(body, "reasoning_effort") or Thinking()
    budget: int | None = None
    switch: bool | None = None
    if type(body.any("think")) is bool:  # Ollama's word, a switch or an effort
        switch = body.values["think"]
    else:
        thinking = _effort(body, "think") or thinking
    reasoning = body.object("reasoning")
    if reasoning is not None:
        thinking = _effort(reasoning, "effort") or thinking
        budget = reasoning.find("max_tokens", _TOKENS)
        switch = reasoning.find("enabled", FLAG)
        reasoning.ignore("summary", "generate_summary", "exclude")
    switch, budget = _anthropic(body, switch, budget)
    kept = None
    arguments = body.object("chat_template_kwargs")
    for place in (body, arguments):
        if place is None:
            continue
        switch = _or(place.find("enable_thinking", FLAG), switch)
        for key in ("thinking_budget", "thinking_budget_tokens", "thinking_token_budget", "reasoning_budget"):
            budget = _or(place.find(key, _TOKENS), budget)
    if arguments is not None:
        kept = arguments.find("preserve_thinking", FLAG)
        switch = _or(arguments.find("thinking", FLAG), switch)
        arguments.ignore("add_vision_id")
        thinking = _effort(arguments, "reasoning_effort") or thinking
    body.unsupported({"reasoning_budget_message": (CLOSING,)}, "")  # of llama.cpp's: what ends the thinking
    return thinking.with_switch(switch).with_budget(None if budget == -1 else budget), kept


def _anthropic(body: Body, switch: bool | None, budget: int | None) -> tuple[bool | None, int | None]:
    """`thinking`, as some servers take it from Anthropic's API: an object, or only the switch."""
    value = body.any("thinking")
    if value is None or type(value) is bool:
        return _or(value, switch), budget
    inner = body.object("thinking")
    assert inner is not None
    kind = inner.find("type", TEXT)
    if kind not in ("enabled", "disabled", "adaptive", None):
        raise inner.refuse("type", "enabled, disabled or adaptive")
    inner.ignore("display")
    said = {"enabled": True, "disabled": False}.get(kind or "")
    return _or(said, switch), _or(inner.find("budget_tokens", _TOKENS), budget)


def _effort(body: Body, key: str) -> Thinking | None:
    word = body.find(key, TEXT)
    if word is None:
        return None
    if word not in EFFORTS:
        raise body.refuse(key, f"one of {', '.join(EFFORTS)}")
    return EFFORTS[word]


def _or(value: T | None, default: T | None) -> T | None:
    return default if value is None else value
