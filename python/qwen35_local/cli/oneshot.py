"""One question, one answer: for scripts and pipes."""

import json
import sys
from typing import Any

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import Message
from qwen35_local.cli.endings import advising, explanation
from qwen35_local.cli.interrupt import interruptible
from qwen35_local.cli.progress import bar
from qwen35_local.cli.session import Session
from qwen35_local.cli.terminal import StyledWriter, has_style
from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Compacted, Done, Event, Logprobs, PromptScores, TokenLogprob, WhenFull
from qwen35_local.errors import DeviceError


def answer(session: Session, question: str, *, as_json: bool) -> int:
    """Prints the reply to `question`; returns the exit code: 0, or 130 when interrupted."""
    session.messages.append(Message("user", question))
    show = JsonPrinter(session.n) if as_json else TextPrinter(session.when_full)
    code, job = 0, Job()
    with bar("prefill", "tok") as progress, interruptible(job.cancel), advising(session.when_full):
        try:
            for event in session.engine.reply(session.request(), progress=progress, job=job):
                show(event)
                if isinstance(event, Done) and event.reason == "cancelled":
                    code = 130
        except DeviceError:
            show.end_line()
            raise
    return code


class JsonPrinter:
    """One event per line; of several replies each says which one it is of."""

    def __init__(self, n: int) -> None:
        self._n = n

    def end_line(self) -> None:
        """Events end theirs."""

    def __call__(self, event: Event) -> None:
        content = event_dict(event)
        if self._n > 1 and not isinstance(event, Compacted):
            content["choice"] = event.choice
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()


class TextPrinter:
    """The answer on stdout as it is when that is a pipe, escaped when it is a terminal; thinking dim on stderr."""

    def __init__(self, when_full: WhenFull) -> None:
        self._when_full = when_full
        self._thoughts = StyledWriter(sys.stderr)
        self._is_terminal = sys.stdout.isatty()
        self._answer = StyledWriter(sys.stdout)
        self._last = ""

    def __call__(self, event: Event) -> None:
        match event:
            case ReasoningDelta(text):
                self._thoughts.write(text, dim=has_style(sys.stderr))
            case TextDelta(text):
                self._thoughts.end_line()
                self._write(text)
            case ToolCallDone():
                self._thoughts.end_line()
                self._write(json.dumps(event_dict(event), ensure_ascii=False) + "\n")
            case Done():
                self.end_line()
                for note in event.notes:
                    self._thoughts.line(f"({note})", dim=True)
                if event.reason in ("length", "context", "loop"):
                    self._thoughts.line(f"(stopped: {explanation(event, self._when_full)})", dim=True)

    def end_line(self) -> None:
        """Whatever was written ends with a newline."""
        self._thoughts.end_line()
        if self._last and not self._last.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        if self._is_terminal:
            self._answer.write(text)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()
        self._last = text or self._last


def event_dict(event: Event) -> dict[str, Any]:
    """An event as the program's JSON; the start of a call says only its name."""
    match event:
        case ReasoningDelta(text):
            return {"type": "reasoning", "text": text}
        case TextDelta(text):
            return {"type": "text", "text": text}
        case ToolCallStart(name=name):
            return {"type": "tool_call_start", "name": name}
        case ToolCallDelta(text=text):
            return {"type": "tool_call_delta", "text": text}
        case ToolCallDone(call=call):
            return {"type": "tool_call", "name": call.name, "arguments": dict(call.arguments)}
        case Done():
            cache = event.reuse.as_dict()
            done: dict[str, Any] = {
                "type": "done",
                "reason": event.reason,
                "usage": event.usage.as_dict(),
                "cache": cache,
            }
            if event.notes:
                done["notes"] = list(event.notes)
            return done if event.stop_string is None else {**done, "stop_string": event.stop_string}
        case Logprobs():
            return {"type": "logprobs", **token_dict(event.token), "top": [token_dict(token) for token in event.top]}
        case PromptScores():  # of no conversation
            return {"type": "prompt_scores", "tokens": [token_dict(one.token) for one in event.others]}
        case Compacted():
            counts = {"tokens_before": event.tokens_before, "tokens_after": event.tokens_after}
            return {"type": "compacted", "dropped": [m.to_dict() for m in event.messages], **counts}


def token_dict(token: TokenLogprob) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "bytes": list(token.data), "logprob": token.logprob}
