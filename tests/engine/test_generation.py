"""Stop strings end an answer, not a thought or a call; what they hide is in no event, message or later prompt."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import Script

from qwen35_local import _core
from qwen35_local.chat.events import ReasoningDelta, TextDelta
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Done, Event, Logprobs, Request
from qwen35_local.errors import InputError

TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}
CALL = ("<tool_call>", "\n<function=look>\n<parameter=n>\n3\n</parameter>\n</function>\n", "</tool_call>")
QUESTION = Message("user", "Which?")

Reply = Callable[..., tuple[list[Event], Done]]


@pytest.fixture
def engine(talker: Path) -> Engine:
    return Engine(_core.Model(talker))


@pytest.fixture
def reply(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Reply:
    script = Script(monkeypatch)

    def reply(*parts: str, stop: Sequence[str], messages: Sequence[Message] = (QUESTION,), **options: Any) -> Any:
        script.say(engine, *parts)
        *events, done = engine.reply(Request(messages, Sampling(), (TOOL,), stop=stop, **options))
        assert isinstance(done, Done)
        assert done.message.text == "".join(event.text for event in events if isinstance(event, TextDelta))
        return events, done

    return reply


@pytest.mark.parametrize(
    ("stop", "shown", "found"),
    [
        (["wor"], "Hello ", "wor"),
        (["o w"], "Hell", "o w"),
        (["world!"], "Hello world", None),
        (["rld", "world"], "Hello ", "world"),
        (["H"], "", "H"),
        (["日本"], "Hello world", None),
    ],
)
def test_the_answer_ends_before_the_stop_string(reply: Reply, stop: list[str], shown: str, found: str | None) -> None:
    """The model has a token per byte: every stop string spans several."""
    _, done = reply("hm", "</think>", "\n\nHello world", stop=stop)
    assert done.message == Message("assistant", shown, reasoning="hm")
    assert (done.reason, done.stop_string) == ("stop", found)


def test_it_may_be_made_of_characters_of_several_tokens(reply: Reply) -> None:
    _, done = reply("</think>", "é日本語🙂.", stop=["本", "🙂"])
    assert done.message.text == "é日"
    assert done.stop_string == "本"
    assert "�" not in reply("</think>", "é日本語🙂.", stop=["🙂"])[1].message.text


def test_text_that_only_began_like_one_comes_after_all(reply: Reply) -> None:
    _, done = reply("</think>", "ab abc ab", stop=["abcd", "ab!"])
    assert done.message.text == "ab abc ab"
    assert done.stop_string is None


def test_the_thinking_is_no_part_of_the_answer(reply: Reply) -> None:
    events, done = reply("not END yet", "</think>", "now END here", stop=["END"])
    assert done.message == Message("assistant", "now ", reasoning="not END yet")
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "not END yet"


def test_nor_is_a_call(reply: Reply) -> None:
    _, done = reply("</think>", "so", *CALL, stop=["function", "3"])
    assert [call.arguments for call in done.message.tool_calls] == [{"n": 3}]
    assert done.message.text == "so"
    assert done.reason == "tool_calls"
    _, done = reply("</think>", "so" * 2, *CALL, stop=["so"])
    assert done.message == Message("assistant", "", reasoning="")
    assert done.reason == "stop"


def test_the_layout_between_thinking_and_answer_does_not_count(reply: Reply) -> None:
    _, done = reply("hm\n\n", "</think>", "\n\nOne.\n\nTwo.", stop=["\n\n"])
    assert done.message.text == "One."
    assert done.stop_string == "\n\n"
    _, done = reply("</think>", "One.\n\n", stop=["\n\n"])
    assert (done.message.text, done.stop_string) == ("One.", "\n\n")


def test_a_limit_inside_a_stop_string_shows_what_was_held_back(reply: Reply) -> None:
    _, done = reply("</think>", "abXYcd", stop=["XYZ"], max_tokens=5)
    assert (done.message.text, done.reason, done.stop_string) == ("abXY", "length", None)


def test_the_next_prompt_has_what_was_shown(engine: Engine, reply: Reply) -> None:
    _, done = reply("</think>", "One. Two.", stop=[" Two"])
    messages = [QUESTION, done.message, Message("user", "Go on.")]
    text = engine.tokenizer.decode(engine.encode(Request(messages, Sampling())).tokens)
    assert "One." in text and "Tw" not in text
    again, _ = reply("</think>", "ok", stop=[], messages=messages)
    assert "".join(event.text for event in again if isinstance(event, TextDelta)) == "ok"


def test_logprobs_are_told_of_every_token_that_is_shown(engine: Engine, reply: Reply) -> None:
    parts = ("hm", "</think>", "\n\nab cd")
    events, done = reply(*parts, stop=[], logprobs=3)
    told = [event for event in events if isinstance(event, Logprobs)]
    assert list(done.logprobs) == told
    special = engine.tokenizer.special_tokens
    expected = [n for part in parts for n in ([special[part]] if part in special else engine.tokenizer.encode(part))]
    assert [one.token.id for one in told] == expected
    assert b"".join(one.token.data for one in told).decode() == "".join(parts)
    for one in told:
        assert len(one.top) == 3
        assert one.token.logprob <= one.top[0].logprob <= 0
        assert [token.logprob for token in one.top] == sorted((token.logprob for token in one.top), reverse=True)


def test_nothing_is_told_of_the_tokens_of_a_stop_string(reply: Reply) -> None:
    events, _ = reply("</think>", "ab EN END", stop=["END"], logprobs=0)
    told = b"".join(event.token.data for event in events if isinstance(event, Logprobs))
    assert told.decode() == "</think>ab EN "
    events, _ = reply("</think>", "ab EN", stop=["END"], logprobs=0)
    assert b"".join(event.token.data for event in events if isinstance(event, Logprobs)).decode() == "</think>ab EN"


@pytest.mark.parametrize("stop", ["END", [""], ["x" * 257], ["x"] * 17, [3], None])
def test_stop_strings_that_cannot_be(stop: Any) -> None:
    with pytest.raises(InputError, match=r"stop: expected up to 16 texts"):
        Request([QUESTION], Sampling(), stop=stop)


@pytest.mark.parametrize("logprobs", [-1, 1001, 1.5, True, "3"])
def test_logprobs_that_cannot_be(logprobs: Any) -> None:
    with pytest.raises(InputError, match=r"logprobs: expected an integer from 0 to 1000"):
        Request([QUESTION], Sampling(), logprobs=logprobs)


@pytest.mark.parametrize(
    "bias", [{-1: 0.0}, {"a": 1.0}, {3: "x"}, {3: float("nan")}, {3: float("inf")}, {2**40: 1}, [3], 5.0]
)
def test_a_bias_that_cannot_be(bias: Any) -> None:
    with pytest.raises(InputError, match="logit_bias"):
        Sampling(logit_bias=bias)


def test_a_bias_outside_the_vocabulary_is_refused_before_the_prompt_is_read(engine: Engine) -> None:
    with pytest.raises(InputError, match="logit_bias names token 999999"):
        list(engine.reply(Request([QUESTION], Sampling(logit_bias={999999: 1.0}))))
    assert engine.tokens_held == 0
