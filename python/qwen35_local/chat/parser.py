"""What the model writes, as it is written, to typed events (docs/architecture.md 8.7, last points of the format).

The output is `reasoning</think>\\n\\nanswer<tool_call>\\n<function=NAME>\\n<parameter=P>\\nVALUE\\n</parameter>\\n
</function>\\n</tool_call>`, more or less: models call tools while still thinking, forget openers and closers, double
them, and fall back to JSON calls. Every text is accepted; what is no call comes out as the text it is.

A step acts only on what no further input can change, so the events do not depend on how the output was cut. What is
undecided is at most a tag, 64 characters of white space and the tag after it; the work is linear in the output.

Thinking is closed once, by the prompt or by the model: whatever comes after that is the answer, also where it opens
thinking again, which may never close.

Where the tokens are known, `<think>`, `<tool_call>` and the other tags that are tokens count only as these: a model
that speaks of a tag in plain letters has written text.
"""

import re
from collections.abc import Container, Iterable, Mapping
from enum import Enum, auto
from typing import Any

from qwen35_local.chat.arguments import ToolSchemas
from qwen35_local.chat.events import (
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    merged,
)
from qwen35_local.chat.lookahead import Lookahead
from qwen35_local.chat.messages import JsonValue, ToolCall
from qwen35_local.chat.unfinished_call import UnfinishedCall, json_call
from qwen35_local.chat.wishes import FREE_CHOICE, ToolChoice

_SPACE = " \t\r\n"
_JSON_SIGN = re.compile(r'["\\{}<]')

_VALUE_ENDS: dict[str, tuple[str, ...]] = {
    "</parameter>": ("<parameter=", "</function>", "</tool_call>", "</parameter>", "<tool_call>"),
    "</function>": ("</tool_call>",),
    "</tool_call>": ("<tool_call>",),
}
"""A closer ends an argument only where one of these tags, or the end of the output, follows it: arguments are often
code or markup and may contain any tag themselves."""

_BODY_TAGS = ("<parameter=", "</function>", "</tool_call>", "</parameter>", "<tool_call>")


class _State(Enum):
    PROSE = auto()
    CALL = auto()  # after <tool_call>
    NAME = auto()  # after <function=
    BODY = auto()  # between arguments
    PARAMETER = auto()  # after <parameter=
    VALUE = auto()
    AFTER = auto()  # after </function> or a JSON object
    JSON = auto()


class OutputParser:
    """Parses one output. Calls are looked for only when tools were offered; without tools their markup is text."""

    def __init__(
        self,
        tools: Iterable[Mapping[str, Any]] = (),
        *,
        in_reasoning: bool = False,
        in_answer: bool = False,
        tokens: Container[str] = (),
        choice: ToolChoice = FREE_CHOICE,
        goes_on: bool = False,
    ) -> None:
        """`tools`: what the prompt offered. `in_reasoning`: the prompt ended with an open `<think>`
        (`Prompt.starts_in_reasoning`); `in_answer`: with `</think>` (`Prompt.starts_in_answer`). `tokens`: spellings
        that are tokens of the vocabulary; empty when only text is known, and every spelling counts. `choice`: which
        calls there may be; what looks like another one is text. `goes_on`: the answer has begun before this output."""
        self._schemas = ToolSchemas(tools)
        self._state = _State.PROSE
        self._in_reasoning = in_reasoning
        self._in_answer = in_answer or goes_on  # the reasoning was closed once
        self._reasoning_is_unclosed = False  # a call ended the reasoning; its </think> may still come
        self._is_fresh = not goes_on  # no prose since the start or the last tag
        self._stray = ""  # a closer with nothing to close: the answer, if nothing else comes
        self._tail = ""  # the end of the prose so far
        self._skipped = "" if goes_on else "\n"  # characters not wanted before the next prose
        self._space: list[str] = []  # white space that is dropped if a tag follows, and prose otherwise
        self._text = Lookahead(tokens)
        self._events: list[Event] = []
        self._n_calls = 0
        self._choice = choice
        self._call = UnfinishedCall()

    @property
    def in_reasoning(self) -> bool:
        """Whether what comes next still belongs to the thinking, as far as is known."""
        return self._in_reasoning

    @property
    def in_call(self) -> bool:
        """Whether what comes next belongs to a call, as far as is known."""
        return self._state is not _State.PROSE

    def feed(self, text: str, *, is_token: bool = False) -> list[Event]:
        """The events that more output decides; often none. `is_token`: `text` is the spelling of one special token."""
        self._text.append(text, is_token=is_token)
        return self._run()

    def finish(self) -> list[Event]:
        """The events of what was still undecided. The parser is then used up."""
        self._text.at_end = True
        events = self._run()
        self._emit_prose(self._stray + "".join(self._space))
        self._space.clear()
        events += self._events
        self._events = []
        return merged(events)

    def _run(self) -> list[Event]:
        steps = {
            _State.PROSE: self._step_prose,
            _State.CALL: self._step_call,
            _State.NAME: self._step_name,
            _State.BODY: self._step_body,
            _State.PARAMETER: self._step_parameter,
            _State.VALUE: self._step_value,
            _State.AFTER: self._step_after,
            _State.JSON: self._step_json,
        }
        while steps[self._state]():
            pass
        events, self._events = self._events, []
        return merged(events)

    # Each step returns whether it moved on; False means: nothing more to do without more input.

    def _step_prose(self) -> bool:
        while True:
            self._add_prose(self._text.take_until("<"))
            if not self._text:
                return False
            tag = self._text.tag(self._prose_tags())
            if tag is None:
                return False
            is_quoted = tag == "<function=" and self._tail == "<tool_call>"  # in plain letters
            if tag and not is_quoted:
                self._open(tag)
                return True
            self._add_prose(self._text.take(1))

    def _prose_tags(self) -> list[str]:
        tags = []
        if self._in_reasoning or self._is_fresh or self._reasoning_is_unclosed:
            tags.append("</think>")
        if self._is_fresh and not self._in_answer:
            tags.append("<think>")
        if self._is_fresh and self._n_calls:
            tags += ["</tool_call>", "</function>"]
        if self._may_call:
            tags += ["<tool_call>", "<function="]
        return tags

    @property
    def _may_call(self) -> bool:
        has_room = self._choice.is_parallel or self._n_calls == 0
        return bool(self._schemas) and self._choice.mode != "none" and has_room

    def _open(self, tag: str) -> None:
        if tag in ("</tool_call>", "</function>"):  # of a call that is over
            self._text.take(len(tag))
            return
        if tag in ("<think>", "</think>"):
            self._text.take(len(tag))
            has_use = tag == "<think>" or self._in_reasoning or self._reasoning_is_unclosed
            self._stray = "" if has_use else tag
            self._in_answer |= tag == "</think>"
            self._in_reasoning = tag == "<think>"
            self._reasoning_is_unclosed = False
            self._is_fresh = True
            self._tail = ""
            self._space.clear()
            self._skipped = "\n"
            return
        self._call = UnfinishedCall(has_opener=tag == "<tool_call>")
        self._state = _State.CALL if self._call.has_opener else _State.NAME
        self._take(len(tag))

    def _step_call(self) -> bool:
        tag = self._text.tag_after_space(("<function=", "{"))
        if tag is None:
            return False
        if not tag:
            return self._not_a_call()
        self._keep(self._text.take_space())
        if tag == "{":
            self._state = _State.JSON
        else:
            self._take(len(tag))
            self._state = _State.NAME
        return True

    def _step_name(self) -> bool:
        header = self._text.take_name()
        if header is None:
            return False
        name = _bare(self._keep(header))
        is_known = self._call.has_opener or name in self._schemas
        if not name or not is_known or not self._is_chosen(name):
            return self._not_a_call()
        self._call.tool = name
        self._events.append(ToolCallStart(self._n_calls, name))
        self._state = _State.BODY
        return True

    def _step_body(self) -> bool:
        self._keep(self._text.take_space())
        tag = self._text.tag(_BODY_TAGS)
        if tag is None:
            return False
        if tag == "<tool_call>":
            return self._complete_call(is_closed=True)
        if tag:
            self._take(len(tag))
            if tag == "</tool_call>":
                return self._complete_call(is_closed=True)
            self._state = {"<parameter=": _State.PARAMETER, "</function>": _State.AFTER}.get(tag, _State.BODY)
            return True
        return self._stop_inside() if self._text.ends_in(_BODY_TAGS) else self._not_a_call()

    def _step_parameter(self) -> bool:
        header = self._text.take_name()
        if header is None:
            return False
        if header:
            parameter = _bare(self._keep(header))
            types = self._schemas.types(self._call.tool, parameter)
            is_json = bool(types) and "string" not in types
            self._tell(self._call.begin_value(parameter, is_text=types <= {"string"}, is_json=is_json))
            self._state = _State.VALUE
            return True
        return self._stop_inside() if self._text.at_end and self._text.may_become_name() else self._not_a_call()

    def _step_value(self) -> bool:
        while True:
            self._add_to_value(self._text.take_until("<"))
            if not self._text:
                if not self._text.at_end:
                    return False
                self._call.end_value(self._value())  # not told: it may be cut short
                return self._stop_inside()
            tag = self._text.tag(tuple(_VALUE_ENDS))
            if tag is None:
                return False
            next_tag = self._text.tag_after_space(_VALUE_ENDS[tag], len(tag)) if tag else ""
            if next_tag is None:
                return False
            is_end = tag and (next_tag or self._text.ends_in(_VALUE_ENDS[tag], len(tag)))
            if is_end and not self._call.is_in_json_string:
                self._tell(self._call.end_value(self._value()))
                if tag == "</parameter>":
                    self._take(len(tag))
                self._state = _State.BODY
                return True
            self._add_to_value(self._text.take(1))

    def _add_to_value(self, text: str) -> None:
        self._tell(self._call.add_to_value(self._keep(text), is_certain=not self._text.at_end))

    def _value(self) -> JsonValue:
        """What the text of the argument stands for; no more of it comes."""
        call = self._call
        return self._schemas.read(call.tool, call.parameter, call.value_text())

    def _tell(self, text: str) -> None:
        """More of the JSON of the call's arguments."""
        if text:
            self._events.append(ToolCallDelta(self._n_calls, text))

    def _step_after(self) -> bool:
        tag = self._text.tag_after_space(("</tool_call>", "<function=", "</function>"))
        if tag is None:
            return False
        if tag == "</function>":  # once more
            self._keep(self._text.take_space())
            self._take(len(tag))
            return True
        if tag == "</tool_call>":
            self._keep(self._text.take_space())
            self._take(len(tag))
        has_opener = self._call.has_opener
        self._complete_call(is_closed=True)
        if tag == "<function=" and self._may_call:
            self._text.take_space()
            self._open(tag)
            self._call.has_opener = has_opener
        return True

    def _step_json(self) -> bool:
        while True:
            found = self._text.search(_JSON_SIGN, int(self._call.is_escaped))
            sign, end = found or ("", len(self._text))
            if sign and sign in "<\\" and not self._call.is_in_string:
                self._take(end - 1)
                return self._not_a_call()
            closer = self._text.tag(("</think>",), end - 1) if sign == "<" and self._in_reasoning else ""
            if closer is None:
                return False
            if closer:  # a string without an end would hold the answer
                self._take(end - 1)
                return self._not_a_call()
            self._call.is_escaped &= end == 0
            self._take(end)
            if not sign:
                return self._text.at_end and self._not_a_call()
            if sign == '"':
                self._call.is_in_string = not self._call.is_in_string
            elif self._call.is_in_string:
                self._call.is_escaped = sign == "\\"
            else:
                self._call.depth += 1 if sign == "{" else -1
                if self._call.depth == 0:
                    return self._end_json()

    def _end_json(self) -> bool:
        call = json_call("".join(self._call.raw).removeprefix("<tool_call>"))
        if call is None or not self._is_chosen(call[0]):
            return self._not_a_call()
        self._call.tool, arguments = call
        self._events.append(ToolCallStart(self._n_calls, self._call.tool))
        for name, value in arguments.items():
            self._tell(self._call.add(name, value))
        self._state = _State.AFTER
        return True

    def _is_chosen(self, name: str) -> bool:
        return self._choice.names is None or name in self._choice.names

    def _take(self, n: int) -> str:
        return self._keep(self._text.take(n))

    def _keep(self, text: str) -> str:
        """Notes that `text` belongs to the call."""
        if text:
            self._call.raw.append(text)
        return text

    def _not_a_call(self) -> bool:
        self._state = _State.PROSE
        self._add_prose("".join(self._call.raw))
        self._tail = ""
        return True

    def _stop_inside(self) -> bool:
        self._take(len(self._text))
        return self._complete_call(is_closed=False)

    def _complete_call(self, *, is_closed: bool) -> bool:
        if is_closed:
            self._tell(self._call.end())
        call = ToolCall(self._call.tool, self._call.arguments)
        self._events.append(ToolCallDone(self._n_calls, call, "".join(self._call.raw), is_closed))
        self._n_calls += 1
        self._state = _State.PROSE
        self._reasoning_is_unclosed |= self._in_reasoning
        self._in_reasoning = False
        self._is_fresh = True
        self._stray = self._tail = ""
        self._space.clear()
        self._skipped = _SPACE
        return True

    def _add_prose(self, text: str) -> None:
        if self._skipped and text:
            text = text.lstrip(self._skipped)
            if text:
                self._skipped = ""
        if not text:
            return
        body = text.rstrip(_SPACE)
        space = text[len(body) :]
        if body:
            body = "".join(self._space) + body
            self._space.clear()
            self._is_fresh = False
            self._stray = ""
            self._tail = (self._tail + body)[-len("<tool_call>") :]
            self._emit_prose(body)
        if space:
            self._space.append(space)

    def _emit_prose(self, text: str) -> None:
        if text:
            self._events.append(ReasoningDelta(text) if self._in_reasoning else TextDelta(text))


def _bare(header: str) -> str:
    """The name in `name>`, quoted or not."""
    return header.removesuffix(">").strip().strip("\"'")
