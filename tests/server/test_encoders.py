"""What the encoders of the dialects make of events, without a model: also of those that are rare."""

import json
from dataclasses import replace
from typing import Any

from conversations import events_of

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Done, Event, Reason, Usage
from qwen35_local.server.anthropic.encoder import MessageEncoder
from qwen35_local.server.counters import Counters
from qwen35_local.server.errors import Refused
from qwen35_local.server.llama_cpp.completion import CompletionEncoder, timings
from qwen35_local.server.ollama.encoder import LineEncoder
from qwen35_local.server.openai.usage import usage_body

USED = Usage(prompt_tokens=30, reused_tokens=10, evaluated_tokens=20, generated_tokens=7, reasoning_tokens=3)
LOOK = ToolCall("look", {"at": "é\n"})


def done(reason: Reason = "stop", stop_string: str | None = None, message: Message | None = None) -> Done:
    return Done(reason, message or Message("assistant", "x"), USED, stop_string=stop_string)


def called(index: int, call: ToolCall, *pieces: str) -> list[Event]:
    deltas = [ToolCallDelta(index, piece) for piece in pieces]
    return [ToolCallStart(index, call.name), *deltas, ToolCallDone(index, call, "raw", True)]


def anthropic(*events: Event, shows_thinking: bool = True) -> list[dict[str, Any]]:
    encoder = MessageEncoder("m", shows_thinking=shows_thinking)
    written = encoder.start() + b"".join(encoder.event(event) for event in events) + encoder.end()
    return [data for _, data in events_of(written.decode())]


def blocks(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Type and joined deltas of each block; every one is opened once and closed, and none inside another."""
    found: list[tuple[str, str]] = []
    is_open = False
    for data in told:
        if data["type"] == "content_block_start":
            assert not is_open
            assert data["index"] == len(found)
            found.append((data["content_block"]["type"], ""))
            is_open = True
        elif data["type"] == "content_block_delta":
            assert is_open
            assert data["index"] == len(found) - 1
            delta = data["delta"]
            kind, text = found[-1]
            found[-1] = (kind, text + delta.get("text", delta.get("thinking", delta.get("partial_json", ""))))
        elif data["type"] == "content_block_stop":
            assert is_open
            is_open = False
    assert not is_open
    return found


def test_blocks_follow_each_other() -> None:
    told = anthropic(
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        TextDelta("c"),
        *called(0, LOOK, '{"at": "', 'é\\n"', "}"),
        *called(1, ToolCall("rest"), "{}"),
        TextDelta("d"),
        done("tool_calls"),
    )
    assert blocks(told) == [
        ("thinking", "ab"),
        ("text", "c"),
        ("tool_use", '{"at": "é\\n"}'),
        ("tool_use", "{}"),
        ("text", "d"),
    ]
    uses = [data["content_block"] for data in told if data["type"] == "content_block_start"][2:4]
    assert [use["name"] for use in uses] == ["look", "rest"]
    assert len({use["id"] for use in uses}) == 2


def test_a_call_that_is_cut_ends_its_block() -> None:
    begun = [ToolCallStart(0, "look"), ToolCallDelta(0, '{"at": "hal')]
    told = anthropic(*begun, TextDelta("<tool_call>...", cut_call=0), done("length"))
    assert blocks(told) == [("tool_use", '{"at": "hal')]
    assert told[-2]["delta"]["stop_reason"] == "max_tokens"
    told = anthropic(begun[0], TextDelta("<tool_call>...", cut_call=0), done("length"))
    assert blocks(told) == [("text", "<tool_call>...")]  # nothing of it was told


def test_what_was_no_call_is_text() -> None:
    assert blocks(anthropic(ToolCallStart(0, "look"), TextDelta("<tool_call>?"), done())) == [("text", "<tool_call>?")]


def test_a_reply_that_says_nothing() -> None:
    assert [data["type"] for data in anthropic(done())] == ["message_start", "message_delta", "message_stop"]


def test_every_end_has_its_reason() -> None:
    expected: dict[Reason, str] = {
        "stop": "end_turn",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "loop": "max_tokens",
        "context": "model_context_window_exceeded",
    }
    for reason, word in expected.items():
        assert anthropic(done(reason))[-2]["delta"] == {"stop_reason": word, "stop_sequence": None}
        assert json.loads(MessageEncoder("m").whole([done(reason)]))["stop_reason"] == word
    assert anthropic(done(stop_string="."))[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "."}
    ollama = {"stop": "stop", "tool_calls": "stop", "length": "length", "loop": "length", "context": "length"}
    llama_cpp = {"stop": "eos", "length": "limit", "loop": "limit", "context": "limit"}
    for reason in expected:
        line = LineEncoder("m", lambda: 0.0, is_chat=True).whole([done(reason)])
        assert json.loads(line)["done_reason"] == ollama[reason]
        if reason in llama_cpp:
            assert json.loads(CompletionEncoder("m", False).whole([done(reason)]))["stop_type"] == llama_cpp[reason]


def test_the_message_starts_when_the_prompt_is_known() -> None:
    encoder = MessageEncoder("m")
    assert events_of(encoder.ping(None).decode()) == [("ping", {"type": "ping"})]
    (_, start), (_, ping) = events_of(encoder.ping(Reading(10, 30)).decode())
    assert start["message"]["usage"]["input_tokens"] == 20
    assert start["message"]["usage"]["cache_read_input_tokens"] == 10
    assert ping == {"type": "ping"}
    assert [name for name, _ in events_of(encoder.ping(Reading(30, 30)).decode())] == ["ping"]
    assert "message_start" not in encoder.event(TextDelta("x")).decode()


def test_a_stream_that_fails_says_so_in_the_words_of_its_dialect() -> None:
    refused = Refused(503, "the device failed.", retry_after=5)
    ((name, data),) = events_of(MessageEncoder("m").failure(refused).decode())
    assert (name, data["error"]) == ("error", {"type": "overloaded_error", "message": "the device failed."})
    assert LineEncoder("m", lambda: 0.0, is_chat=True).failure(refused) == b'{"error":"the device failed."}\n'
    ((_, data),) = events_of(CompletionEncoder("m", False).failure(refused).decode())
    assert data["error"] == {"code": 503, "message": "the device failed.", "type": "unavailable_error"}


def test_half_a_character_is_escaped() -> None:
    """A model can write the halves of a surrogate pair as JSON escapes in an argument."""
    half = "\ud83d"
    assert blocks(anthropic(TextDelta(half), done())) == [("text", half)]
    whole = done(message=Message("assistant", half))
    assert json.loads(MessageEncoder("m").whole([whole]))["content"][0]["text"] == half
    assert json.loads(LineEncoder("m", lambda: 0.0, is_chat=True).whole([whole]))["message"]["content"] == half
    assert json.loads(CompletionEncoder("m", False).whole([whole]))["content"] == half


def test_what_keeps_a_connection_alive_says_nothing() -> None:
    assert json.loads(LineEncoder("m", lambda: 0.0, is_chat=True).ping(None))["message"]["content"] == ""
    assert json.loads(LineEncoder("m", lambda: 0.0, is_chat=False).ping(None))["response"] == ""
    for is_asked_for in (True, False):
        assert CompletionEncoder("m", is_asked_for).ping(None).startswith(b":")
    assert CompletionEncoder("m", False).ping(Reading(1, 2)).startswith(b":")


def test_lines_of_a_chat_and_of_a_completion() -> None:
    chat, generate = (LineEncoder("m", lambda: 1.5, is_chat=is_chat) for is_chat in (True, False))
    assert json.loads(chat.event(TextDelta("x"))) == {
        "model": "m",
        "created_at": "1970-01-01T00:00:01.500000Z",
        "message": {"role": "assistant", "content": "x"},
        "done": False,
    }
    assert json.loads(generate.event(ReasoningDelta("x")))["thinking"] == "x"
    assert chat.event(ToolCallStart(0, "look")) == chat.event(ToolCallDelta(0, "{")) == b""
    calls = [json.loads(chat.event(ToolCallDone(n, LOOK, "", True)))["message"]["tool_calls"][0] for n in (0, 1)]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert calls[0]["function"]["arguments"] == LOOK.arguments
    message = Message("assistant", "", None, (LOOK, LOOK))
    whole = json.loads(LineEncoder("m", lambda: 0.0, is_chat=True).whole([done("tool_calls", message=message)]))
    assert [call["function"]["index"] for call in whole["message"]["tool_calls"]] == [0, 1]


def test_drafts_are_counted_in_the_words_of_each_dialect() -> None:
    drafting = replace(USED, drafted_tokens=5, accepted_tokens=3)
    assert (timings(drafting)["draft_n"], timings(drafting)["draft_n_accepted"]) == (5, 3)
    assert not timings(USED).keys() & {"draft_n", "draft_n_accepted"}  # where nothing is drafted, as llama.cpp
    assert usage_body({0: drafting, 1: drafting}, 2)["completion_tokens_details"] == {
        "reasoning_tokens": 6,
        "accepted_prediction_tokens": 6,
        "rejected_prediction_tokens": 4,
    }
    counters = Counters()
    for used in (drafting, USED, drafting):
        counters.count_reply("stop", used)
    assert (counters.drafted_tokens, counters.accepted_tokens) == (10, 6)
