"""`/v1/responses`: the answer, in one piece or as events."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Done, Event, Logprobs, Usage, of_answer
from qwen35_local.server.dialect import EVENT_STREAM
from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.responses_output import Output, Told
from qwen35_local.server.openai.responses_request import Read
from qwen35_local.server.service import Service


class ResponseEncoder:
    """`keep` is called with the body of the finished response and its Done."""

    media_type = EVENT_STREAM

    def __init__(self, service: Service, read: Read, keep: Callable[[dict[str, Any], Done], None]) -> None:
        self._clock = service.clock
        self._keep = keep
        self._output = Output(read.tools.custom, read.shows_summary, read.seals_thinking)
        self._number = 0
        self._logprobs: list[Logprobs] = []
        self._names: dict[int, str] = {}
        self._begun: set[int] = set()
        self._done: Done | None = None
        self._body = _head(service, read)

    def start(self) -> bytes:
        return self._written([(kind, {"response": self._body}) for kind in ("created", "in_progress")])

    def event(self, event: Event) -> bytes:
        return self._written(self._told(event))

    def ping(self, reading: Reading | None) -> bytes:
        return b": ping\n\n"

    def end(self) -> bytes:
        assert self._done is not None
        is_whole = self._done.reason in ("stop", "tool_calls")
        written = self._written(self._output.close("completed" if is_whole else "incomplete"))
        body = self._finished(self._done)
        return written + self._written([(body["status"], {"response": body})])

    def failure(self, refused: Refused) -> bytes:
        written = self._written(self._output.close("incomplete"))
        code = "rate_limit_exceeded" if refused.status == 429 else "server_error"
        error = {
            "code": code if refused.status != 400 else refused.code or "invalid_prompt",
            "message": refused.message,
        }
        body = {**self._body, "status": "failed", "error": error, "output": self._output.items}
        return written + self._written([("failed", {"response": body})])

    def whole(self, replies: Sequence[Done]) -> bytes:
        (done,) = replies
        message = done.message
        steps: list[Iterable[Told]] = []
        if message.reasoning:
            steps.append(self._output.think(message.reasoning))
        if message.text or not message.tool_calls:
            steps.append(self._output.write(message.text, _of_text(done.logprobs, message.text)))
        for call in message.tool_calls:
            steps += [self._output.begin_call(call.name), self._output.end_call(call)]
        is_whole = done.reason in ("stop", "tool_calls")
        for step in (*steps, self._output.close("completed" if is_whole else "incomplete")):
            for _ in step:
                pass
        return encoded(self._finished(done))

    def _told(self, event: Event) -> Iterable[Told]:
        output = self._output
        match event:
            case ReasoningDelta(text=text):
                self._logprobs = []
                yield from output.think(text)
            case TextDelta(cut_call=index) if index in self._begun:
                yield from output.close()  # as an incomplete call
            case TextDelta(text=text):
                logprobs, self._logprobs = self._logprobs, []
                yield from output.write(text, logprobs if output.is_writing else of_answer(logprobs))
            case ToolCallStart(index=index, name=name):
                self._names[index] = name
            case ToolCallDelta(index=index, text=text):
                yield from self._begin_call(index, self._names[index])
                yield from output.write_arguments(text)
            case ToolCallDone(index=index, call=call):
                self._logprobs = []
                yield from self._begin_call(index, call.name)
                yield from output.end_call(call)
            case Logprobs() if not event.in_reasoning:
                self._logprobs.append(event)
            case Done():
                self._done = event
            case _:
                pass

    def _begin_call(self, index: int, name: str) -> Iterable[Told]:
        """Tells of a call with the first of its arguments: until then it may turn out to be none."""
        if index not in self._begun:
            self._begun.add(index)
            yield from self._output.begin_call(name)

    def _finished(self, done: Done) -> dict[str, Any]:
        is_whole = done.reason in ("stop", "tool_calls")
        body = {
            **self._body,
            "status": "completed" if is_whole else "incomplete",
            "completed_at": int(self._clock()) if is_whole else None,
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "output": self._output.items,
            "usage": usage_body(done.usage),
        }
        self._keep(body, done)
        return body

    def _written(self, told: Iterable[Told]) -> bytes:
        data = b""
        for kind, fields in told:
            body = {"type": f"response.{kind}", "sequence_number": self._number, **fields}
            self._number += 1
            data += b"event: response.%s\ndata: %s\n\n" % (kind.encode(), encoded(body))
        return data


def _of_text(told: Iterable[Logprobs], text: str) -> list[Logprobs]:
    """Without those of calls that follow the text."""
    mine = of_answer(told)
    before = accumulate((len(one.token.data) for one in mine), initial=0)
    length = len(text.encode("utf-8", "replace"))
    return [one for one, place in zip(mine, before, strict=False) if place < length]


def _head(service: Service, read: Read) -> dict[str, Any]:
    """What a response says before it has begun."""
    sampling, request = read.request.sampling, read.request
    return {
        "id": "resp_" + secrets.token_hex(16),
        "object": "response",
        "created_at": int(service.clock()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": service.name,
        "output": [],
        "parallel_tool_calls": request.tool_choice.is_parallel,
        "store": read.is_kept,
        "usage": None,
        **read.echo,
        "reasoning": read.echo.get("reasoning") or {"effort": None, "summary": None},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "text": read.echo.get("text") or {"format": {"type": "text"}},
        "tool_choice": read.echo.get("tool_choice") or "auto",
        "tools": read.echo.get("tools") or [],
        "truncation": read.echo.get("truncation") or "disabled",
        "service_tier": "default",
        "system_fingerprint": service.fingerprint,
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.reused_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    }
