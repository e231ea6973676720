"""Replies that speak of tags: what the model spelled in letters stays text, in its message and in later prompts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scripted import Script

from qwen35_local import _core
from qwen35_local.chat.events import TextDelta
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Done, Request

TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}
QUOTED = "<tool_call>\n<function=look>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>"
FOREIGN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)

Ask = Callable[..., Done]


@pytest.fixture
def engine(talker: Path) -> Engine:
    return Engine(_core.Model(talker))


@pytest.fixture
def ask(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """ask(messages, parts): a reply of these parts, each a special token or text encoded as the model would."""
    script = Script(monkeypatch)

    def ask(messages: Sequence[Message], *parts: str, is_special: Sequence[int] = (), **options: object) -> Done:
        tokenizer = engine.tokenizer
        script.tokens = []
        for n, part in enumerate(parts):
            script.tokens += [tokenizer.token_id(part)] if n in is_special else tokenizer.encode(part)
        script.tokens.append(tokenizer.token_id("<|im_end|>"))
        *_, done = engine.reply(Request(messages, Sampling(), (TOOL,), **options))  # type: ignore[arg-type]
        assert isinstance(done, Done)
        return done

    return ask


QUESTION = Message("user", "Which tags?")
THOUGHT = "the tag </think> ends it, <think> opens, " + QUOTED
ANSWER = "<think> and </think>, and a call:\n" + QUOTED
PARTS = (THOUGHT + "\n", "</think>", "\n\n" + ANSWER)


def test_only_tokens_are_tags(ask: Ask) -> None:
    done = ask([QUESTION], *PARTS, is_special=[1])
    assert done.message == Message("assistant", ANSWER, reasoning=THOUGHT)
    assert done.reason == "stop"
    assert done.usage.reasoning_tokens < done.usage.generated_tokens


def test_a_call_by_token_is_a_call(ask: Ask) -> None:
    call = ["<tool_call>", QUOTED.removeprefix("<tool_call>").removesuffix("</tool_call>"), "</tool_call>"]
    done = ask([QUESTION], "hm", "</think>", *call, is_special=[1, 2, 4])
    assert [(c.name, c.arguments) for c in done.message.tool_calls] == [("look", {"n": 3})]
    assert done.reason == "tool_calls"


@pytest.mark.parametrize("keep_thinking", [True, None])
def test_the_next_prompt_quotes_and_goes_on(engine: Engine, ask: Ask, keep_thinking: bool | None) -> None:
    """The letters are letters again, nothing is cut at them, and what was read is reused."""
    first = ask([QUESTION], *PARTS, is_special=[1], keep_thinking=keep_thinking)
    messages = [QUESTION, first.message, Message("user", "Go on.")]
    request = Request(messages, Sampling(), (TOOL,), keep_thinking=keep_thinking)
    tokens = engine.encode(request).tokens
    text = engine.tokenizer.decode(tokens)
    assert ANSWER in text
    assert (THOUGHT in text) == (keep_thinking is True)
    think, closer = (engine.tokenizer.token_id(tag) for tag in ("<think>", "</think>"))
    turns_with_thinking = 2 if keep_thinking else 1
    assert tokens.count(think) == turns_with_thinking
    assert tokens.count(closer) == turns_with_thinking - 1
    second = ask(messages, "ok", "</think>", "\n\nok", is_special=[1], keep_thinking=keep_thinking)
    before_reply = engine.encode(Request([QUESTION], Sampling(), (TOOL,))).last_turn_at
    behind_reply = first.usage.prompt_tokens + first.usage.generated_tokens - 1
    assert second.usage.reused_tokens == (behind_reply if keep_thinking else before_reply)


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking_that_is_opened_again_is_the_answer(engine: Engine, ask: Ask, thinking: bool) -> None:
    """It never closes, and what it says is visible, goes into the next prompt, and is not read again."""
    parts = (*(("hm", "</think>", "\n\n") if thinking else ()), "<think>", "\nBecause.")
    special = [1, 3] if thinking else [0]
    first = ask([QUESTION], *parts, is_special=special, keep_thinking=True, thinking=thinking)
    assert first.message == Message("assistant", "<think>\nBecause.", reasoning="hm" if thinking else "")
    messages = [QUESTION, first.message, Message("user", "Go on.")]
    request = Request(messages, Sampling(), (TOOL,), keep_thinking=True, thinking=thinking)
    assert "<think>\nBecause." in engine.tokenizer.decode(engine.encode(request).tokens)
    second = ask(messages, "ok", keep_thinking=True, thinking=thinking)
    assert second.usage.reused_tokens == first.usage.prompt_tokens + first.usage.generated_tokens - 1


def test_a_call_that_is_cut_short_is_shown_as_text(engine: Engine, ask: Ask) -> None:
    request = Request([QUESTION], Sampling(), (TOOL,))
    cut = QUOTED.removeprefix("<tool_call>").partition("\n</parameter>")[0]
    done = ask([QUESTION], "hm", "</think>", "<tool_call>", cut, is_special=[1, 2])
    assert done.message == Message("assistant", "<tool_call>" + cut, reasoning="hm")
    assert done.reason == "stop" and done.notes == ("a call was cut short, and is none",)
    shown = "".join(event.text for event in engine.reply(request) if isinstance(event, TextDelta))
    assert shown == done.message.text


def test_a_message_that_comes_back_without_its_thinking_is_not_cut(engine: Engine, ask: Ask) -> None:
    first = ask([QUESTION], *PARTS, is_special=[1])
    back = [QUESTION, Message("assistant", first.message.text), Message("user", "Go on.")]
    assert ANSWER in engine.tokenizer.decode(engine.encode(Request(back, Sampling())).tokens)


def test_a_foreign_template_does_not_cut_it_either(talker: Path, ask: Ask) -> None:
    """It looks for thinking in the text of a reply; of a reply whose thinking is known it sees no tags."""
    foreign = Engine(_core.Model(talker), metadata={**_core.Model(talker).metadata, "tokenizer.chat_template": FOREIGN})
    said = ask([QUESTION], *PARTS, is_special=[1]).message
    tokens = foreign.encode(Request([QUESTION, said, Message("user", "Go on.")], Sampling())).tokens
    assert ANSWER in foreign.tokenizer.decode(tokens)
    assert tokens.count(foreign.tokenizer.token_id("<think>")) == 1
    unknown = Message("assistant", "why</think>because")
    text = foreign.template.render([QUESTION, unknown, Message("user", "Go on.")]).text
    assert "because" in text and "why" not in text
