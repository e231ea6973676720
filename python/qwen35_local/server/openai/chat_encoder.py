"""`/v1/chat/completions`: the answer, in one piece or as chunks."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import ToolCall
from qwen35_local.chat.unfinished_call import json_text
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Done, Event, Logprobs, Reason, TokenLogprob, Usage
from qwen35_local.server.dialect import EVENT_STREAM
from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.errors import error_body
from qwen35_local.server.openai.tools import INPUT
from qwen35_local.server.openai.usage import usage_body
from qwen35_local.server.service import Service

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not have."""

REASONS: dict[Reason, str] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "length": "length",
    "context": "length",
    "loop": "length",
    "cancelled": "stop",
}


@dataclass
class _Choice:
    """One reply of a stream. `names`: of its calls by index; `told`: the arguments that the client has of them."""

    has_begun: bool = False
    logprobs: list[Logprobs] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    told: dict[int, str] = field(default_factory=dict)


class ChatEncoder:
    """`custom`: tools whose calls are of type custom. `shows_usage`: a stream ends with a chunk of what it took.
    `shows_cost`: each choice has it, with why (`cost`). Not `shows_thinking`: there is some, untold."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        service: Service,
        n: int,
        custom: frozenset[str],
        *,
        shows_usage: bool,
        shows_progress: bool,
        shows_cost: bool = False,
        shows_thinking: bool = True,
        streams: bool,
    ) -> None:
        self._custom = custom
        self._shows_usage = shows_usage
        self._shows_progress = shows_progress
        self._shows_cost = shows_cost
        self._shows_thinking = shows_thinking
        self.id = "chatcmpl-" + secrets.token_hex(12)
        self._head = {
            "id": self.id,
            "object": "chat.completion.chunk" if streams else "chat.completion",
            "created": int(service.clock()),
            "model": service.name,
            "system_fingerprint": service.fingerprint,
        }
        self._choices = [_Choice() for _ in range(n)]
        self._started = time.monotonic()
        self._read_before: int | None = None
        self._usages: dict[int, Usage] = {}

    def start(self) -> bytes:
        return b""

    def event(self, event: Event) -> bytes:
        match event:
            case ReasoningDelta(text=text) if self._shows_thinking:
                return self._delta(event.choice, {"reasoning_content": text, "reasoning": text})
            case TextDelta(cut_call=index) if index in self._choices[event.choice].told:
                return b""  # as far as the client has it, it stays what it is: a call that is not whole
            case TextDelta(text=text):
                return self._delta(event.choice, {"content": text})
            case ToolCallStart(index=index, name=name):
                # Told with its arguments: until then it may turn out to be no call.
                self._choices[event.choice].names[index] = name
            case ToolCallDelta(index=index, text=text):
                return self._arguments(event.choice, index, text)
            case ToolCallDone(index=index, call=call):
                return self._call_done(event.choice, index, call)
            case Logprobs() if self._shows_thinking or not event.in_reasoning:
                self._choices[event.choice].logprobs.append(event)
            case Done():
                return self._done(event)
            case _:
                pass
        return b""

    def ping(self, reading: Reading | None) -> bytes:
        if reading is None:
            return b": ping\n\n"
        comment = b": reading the prompt, %d of %d tokens\n\n" % (reading.done, reading.total)
        if not self._shows_progress:
            return comment
        if self._read_before is None:
            self._read_before = reading.done
        milliseconds = round(1000 * (time.monotonic() - self._started))
        progress = {
            "total": reading.total,
            "cache": self._read_before,
            "processed": reading.done,
            "time_ms": milliseconds,
        }
        return comment + _line({**self._head, "choices": [], "prompt_progress": progress})

    def end(self) -> bytes:
        last = b"data: [DONE]\n\n"
        if not self._shows_usage:
            return last
        return _line({**self._head, "choices": [], "usage": usage_body(self._usages, len(self._choices))}) + last

    def failure(self, refused: Refused) -> bytes:
        return _line(error_body(refused)) + b"data: [DONE]\n\n"

    def whole(self, replies: Sequence[Done]) -> bytes:
        choices = [self._whole_choice(done) for done in replies]
        usage = usage_body({done.choice: done.usage for done in replies}, len(self._choices))
        return encoded({**self._head, "choices": choices, "usage": usage})

    def _whole_choice(self, done: Done) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": done.message.text if done.message.text or not done.message.tool_calls else None,
            "refusal": None,
        }
        if done.message.reasoning and self._shows_thinking:
            message |= {"reasoning_content": done.message.reasoning, "reasoning": done.message.reasoning}
        if done.message.tool_calls:
            message["tool_calls"] = [
                self._call(call.name, free_text(call) if call.name in self._custom else arguments_text(call))
                for call in done.message.tool_calls
            ]
        told = [one for one in done.logprobs if self._shows_thinking or not one.in_reasoning]
        return {
            "index": done.choice,
            "message": message,
            "logprobs": {"content": list(map(logprob_body, told)), "refusal": None} if told else None,
            **self._finish(done),
        }

    def _finish(self, done: Done) -> dict[str, Any]:
        return {**finish(done), **({"qwen35": cost(done)} if self._shows_cost else {})}

    def _delta(self, choice: int, delta: dict[str, Any], finish: dict[str, Any] | None = None) -> bytes:
        state = self._choices[choice]
        if not state.has_begun:
            state.has_begun = True
            delta = {"role": "assistant", **delta}
        told, state.logprobs = state.logprobs, []
        logprobs = {"content": list(map(logprob_body, told)), "refusal": None} if told else None
        body = {"index": choice, "delta": delta, "logprobs": logprobs, **(finish or {"finish_reason": None})}
        return _line({**self._head, "choices": [body], **({"usage": None} if self._shows_usage else {})})

    def _done(self, done: Done) -> bytes:
        self._usages[done.choice] = done.usage
        begins = b"" if self._choices[done.choice].has_begun else self._delta(done.choice, {"content": ""})
        return begins + self._delta(done.choice, {}, self._finish(done))

    def _arguments(self, choice: int, index: int, text: str) -> bytes:
        """More of a call's arguments; the first of them bring its name. Those of a custom tool are told at its end."""
        state = self._choices[choice]
        name = state.names[index]
        if name in self._custom:
            return b""
        if index in state.told:
            state.told[index] += text
            return self._delta(choice, {"tool_calls": [{"index": index, "function": {"arguments": text}}]})
        state.told[index] = text
        return self._delta(choice, {"tool_calls": [{"index": index, **self._call(name, text)}]})

    def _call_done(self, choice: int, index: int, call: ToolCall) -> bytes:
        state = self._choices[choice]
        state.names[index] = call.name
        if call.name in self._custom:
            return self._delta(choice, {"tool_calls": [{"index": index, **self._call(call.name, free_text(call))}]})
        whole, told = arguments_text(call), state.told.get(index)
        return b"" if told == whole else self._arguments(choice, index, whole.removeprefix(told or ""))

    def _call(self, name: str, text: str) -> dict[str, Any]:
        """`text`: its arguments, or the input of a custom tool."""
        identifier = "call_" + secrets.token_hex(12)
        if name in self._custom:
            return {"id": identifier, "type": "custom", "custom": {"name": name, "input": text}}
        return {"id": identifier, "type": "function", "function": {"name": name, "arguments": text}}


def finish(done: Done) -> dict[str, Any]:
    """`stop_reason`: what `finish_reason` has no word for, the stop string too. `notes`: what is odd about the reply,
    in words."""
    more = done.stop_string or (done.reason if done.reason in ("context", "loop") else None)
    stop = {"stop_reason": more} if more else {}
    notes = {"notes": list(done.notes)} if done.notes else {}
    return {"finish_reason": REASONS[done.reason], **stop, **notes}


def cost(done: Done) -> dict[str, Any]:
    """What a reply took, and why its prompt cost what it did: `/why` of the terminal. What was known at the place where
    the prompt differs is left out: it may be another user's."""
    gap = done.reuse.difference
    return {
        "reason": done.reason,
        "notes": list(done.notes),
        **done.usage.as_dict(),
        "source": done.reuse.source,
        "idle_tokens": done.reuse.idle_tokens,
        "differs_at": None if gap is None else gap.position,
        "differing_text": None if gap is None else gap.prompt,
    }


def arguments_text(call: ToolCall) -> str:
    """The arguments of a call, as JSON."""
    return json_text(dict(call.arguments))


def free_text(call: ToolCall) -> str:
    """The input of a custom tool."""
    value = call.arguments.get(INPUT)
    return value if isinstance(value, str) else arguments_text(call)


def logprob_body(told: Logprobs) -> dict[str, Any]:
    return {**_token(told.token), "top_logprobs": list(map(_token, told.top))}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "logprob": max(token.logprob, LEAST_LOGPROB), "bytes": list(token.data)}


def _line(value: Any) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"
