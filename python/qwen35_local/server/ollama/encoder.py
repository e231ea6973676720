"""A reply as lines of JSON, each a part of it and the last with what it took; or as one such line."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDone
from qwen35_local.chat.messages import ToolCall
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Done, Event, Logprobs, TokenLogprob, Usage
from qwen35_local.server.dialect import JSON_LINES
from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.ollama.errors import error_body

_REASONS = {"length": "length", "context": "length", "loop": "length"}  # any other is "stop"


class LineEncoder:
    """Of one reply, of `/api/chat` or of `/api/generate`. `clock`: seconds since 1970."""

    media_type = JSON_LINES

    def __init__(self, model: str, clock: Callable[[], float], *, is_chat: bool) -> None:
        self._model = model
        self._clock = clock
        self._is_chat = is_chat
        self._started = time.monotonic()
        self._logprobs: list[dict[str, Any]] = []
        self._calls = 0

    def start(self) -> bytes:
        return b""

    def ping(self, reading: Reading | None) -> bytes:
        return self._line(self._part(), done=False)

    def event(self, event: Event) -> bytes:
        match event:
            case ReasoningDelta(text):
                return self._line(self._part(thinking=text), done=False)
            case TextDelta(text):
                return self._line(self._part(text), done=False)
            case ToolCallDone(call=call):
                self._calls += 1
                return self._line(self._part(calls=[call]), done=False)
            case Logprobs():
                self._logprobs.append(_logprob(event))
            case Done():
                return self._line(self._part(), done=True, done_reason=_reason(event), **self._spent(event.usage))
        return b""

    def end(self) -> bytes:
        return b""

    def failure(self, refused: Refused) -> bytes:
        return encoded(error_body(refused)) + b"\n"

    def whole(self, replies: Sequence[Done]) -> bytes:
        done = replies[0]
        message = done.message
        self._logprobs = [_logprob(entry) for entry in done.logprobs]
        part = self._part(message.text, message.reasoning or "", message.tool_calls)
        return self._line(part, done=True, done_reason=_reason(done), **self._spent(done.usage)).rstrip(b"\n")

    def loaded(self) -> bytes:
        """The answer to a request that says nothing: the model is there."""
        return self._line(self._part(), done=True, done_reason="load")

    def _part(self, text: str = "", thinking: str = "", calls: Sequence[ToolCall] = ()) -> dict[str, Any]:
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if calls:
            first = max(0, self._calls - 1)
            more["tool_calls"] = [_call(call, first + n) for n, call in enumerate(calls)]
        if self._is_chat:
            return {"message": {"role": "assistant", "content": text, **more}}
        return {"response": text, **more}

    def _line(self, part: dict[str, Any], *, done: bool, **more: Any) -> bytes:
        told: dict[str, Any] = {"logprobs": self._logprobs} if self._logprobs else {}
        self._logprobs = []
        line = {"model": self._model, "created_at": stamp(self._clock()), **part, "done": done, **more, **told}
        return encoded(line) + b"\n"

    def _spent(self, usage: Usage) -> dict[str, int]:
        """Nanoseconds and counts. The prompt's time ends with the first token."""
        total = time.monotonic() - self._started
        return {
            "total_duration": _nanoseconds(max(total, usage.seconds)),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(usage.first_token_seconds),
            "eval_count": usage.generated_tokens,
            "eval_duration": _nanoseconds(usage.seconds - usage.first_token_seconds),
        }


def stamp(seconds: float) -> str:
    """A time as Ollama writes it, with microseconds, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    return {
        "id": f"call_{token_hex(8)}",
        "function": {"index": index, "name": call.name, "arguments": dict(call.arguments)},
    }


def _logprob(told: Logprobs) -> dict[str, Any]:
    return _token(told.token) | {"top_logprobs": [_token(token) for token in told.top]}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.data)}


def _reason(done: Done) -> str:
    return _REASONS.get(done.reason, "stop")


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
