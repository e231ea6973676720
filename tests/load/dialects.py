"""One question in every dialect, and the text in every dialect's answer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qwen35_local import Model

Turns: TypeAlias = Sequence[str]
"""What the user and the model said in turns, the user first and last."""

TEMPERATURE = 1.0
TOP_K = 40


@dataclass(frozen=True)
class Question:
    turns: tuple[str, ...]
    seed: int
    max_tokens: int


@dataclass(frozen=True)
class Dialect:
    """How to ask for a stream or an answer in one piece, and how to read the text and, where there is one, the id."""

    path: str
    body: Callable[[Question, bool], dict[str, Any]]
    text: Callable[[list[dict[str, Any]], bool], str]

    def read(self, body: bytes, streams: bool) -> tuple[str, str]:
        """Text and id. Raises ValueError where an answer has no end."""
        parts = _parts(body) if streams else [json.loads(body)]
        if streams and not any(_is_end(part) for part in parts):
            raise ValueError(f"a stream without an end: {body[-200:]!r}")
        return self.text(parts, streams), next((found for part in parts if (found := _id(part))), "")


def _parts(body: bytes) -> list[dict[str, Any]]:
    lines = (line.removeprefix(b"data: ") for line in body.splitlines())
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def _is_end(part: dict[str, Any]) -> bool:
    choices = part.get("choices") or [{}]
    kind = part.get("type") in ("message_stop", "response.completed", "response.incomplete")
    return bool(kind or part.get("done") or choices[0].get("finish_reason"))


def _id(part: dict[str, Any]) -> str:
    inner = part.get("response") or part.get("message") or part
    return str(part.get("id") or (inner.get("id") if isinstance(inner, dict) else "") or "")


def _messages(turns: Turns) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]


def _settings(question: Question) -> dict[str, Any]:
    return {"temperature": TEMPERATURE, "top_k": TOP_K, "seed": question.seed}


def _chat(question: Question, streams: bool) -> dict[str, Any]:
    said = {"messages": _messages(question.turns), "max_tokens": question.max_tokens, "reasoning_effort": "none"}
    return said | _settings(question) | {"stream": streams}


def _chat_text(parts: list[dict[str, Any]], streams: bool) -> str:
    choices = [choice for part in parts for choice in part["choices"]]
    return "".join(choice["delta" if streams else "message"].get("content") or "" for choice in choices)


def _completion(question: Question, streams: bool) -> dict[str, Any]:
    said = {"prompt": prompt_of(question.turns), "max_tokens": question.max_tokens}
    return said | _settings(question) | {"stream": streams}


def _completion_text(parts: list[dict[str, Any]], streams: bool) -> str:
    return "".join(choice["text"] for part in parts for choice in part["choices"])


def _responses(question: Question, streams: bool) -> dict[str, Any]:
    said = {"input": _messages(question.turns), "max_output_tokens": question.max_tokens}
    return said | {"reasoning": {"effort": "none"}, "stream": streams} | _settings(question)


def _responses_text(parts: list[dict[str, Any]], streams: bool) -> str:
    if streams:
        return "".join(part["delta"] for part in parts if part["type"] == "response.output_text.delta")
    return "".join(inner["text"] for item in parts[0]["output"] for inner in item.get("content", ()))


def _anthropic(question: Question, streams: bool) -> dict[str, Any]:
    said = {"model": "m", "messages": _messages(question.turns), "max_tokens": question.max_tokens}
    return said | {"thinking": {"type": "disabled"}, "stream": streams} | _settings(question)


def _anthropic_text(parts: list[dict[str, Any]], streams: bool) -> str:
    if streams:
        return "".join(part["delta"]["text"] for part in parts if part["type"] == "content_block_delta")
    return "".join(block["text"] for block in parts[0]["content"])


def _ollama(question: Question, streams: bool) -> dict[str, Any]:
    options = _settings(question) | {"num_predict": question.max_tokens}
    said = {"model": "m", "messages": _messages(question.turns), "options": options}
    return said | {"think": False, "stream": streams}


def _ollama_text(parts: list[dict[str, Any]], streams: bool) -> str:
    return "".join(part["message"]["content"] for part in parts)


DIALECTS = {
    "chat": Dialect("/v1/chat/completions", _chat, _chat_text),
    "completions": Dialect("/v1/completions", _completion, _completion_text),
    "responses": Dialect("/v1/responses", _responses, _responses_text),
    "anthropic": Dialect("/v1/messages", _anthropic, _anthropic_text),
    "ollama": Dialect("/api/chat", _ollama, _ollama_text),
}


def prompt_of(turns: Turns) -> str:
    """For dialects without messages."""
    return "\n".join(turns)


def alone(model: Model, question: Question, *, is_chat: bool = True) -> str:
    """What the library answers, with nobody else there. `is_chat`: messages, not one prompt."""
    warm = replace(model.preset(thinking=False), temperature=TEMPERATURE, top_k=TOP_K)
    options = {"sampling": warm, "seed": question.seed, "max_tokens": question.max_tokens}
    if is_chat:
        reply = model.chat(_messages(question.turns), thinking=False, **options)
    else:
        reply = model.generate(prompt_of(question.turns), **options)
    return reply.message.text
