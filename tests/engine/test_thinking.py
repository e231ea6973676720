"""Thinking that has to end: a closing sentence, `</think>` and an answer, as tokens of the reply like any others."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted import Script

from qwen35_local import _core
from qwen35_local.chat.events import Event, ReasoningDelta, TextDelta
from qwen35_local.chat.messages import Message
from qwen35_local.chat.parser import OutputParser
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.generation import Generation
from qwen35_local.engine.job import Job, Told
from qwen35_local.engine.reply import Done, Logprobs, Reply, Request
from qwen35_local.engine.thinking import ANSWER_TOKENS, CLOSING, closing_tokens
from qwen35_local.errors import InputError

TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}
QUESTION = Message("user", "Which?")
THOUGHT = "".join(f"Point {n} is one more to think of. " for n in range(200))
WARM = Sampling(temperature=1.5, top_k=40, presence_penalty=1.0, seed=7)


@pytest.fixture
def engine(talker: Path) -> Engine:
    return Engine(_core.Model(talker))


class Writer:
    """A reply written by hand: a token per byte, and what comes of each."""

    def __init__(self, engine: Engine, request: Request, room: int = 100_000) -> None:
        tokenizer = engine.tokenizer
        self.special = tokenizer.special_tokens
        self.encode = tokenizer.encode
        self.reply = Reply()
        self.events: list[Any] = []
        self.wants_answer = False
        parser = OutputParser(request.tools, in_reasoning=True, tokens=self.special)
        self.generation = Generation(request, parser, tokenizer, self.reply, room, lambda: self.wants_answer)
        self.closing = closing_tokens(tokenizer)

    def write(self, *parts: str) -> None:
        """Until something ends the reply."""
        for part in parts:
            for token in [self.special[part]] if part in self.special else self.encode(part):
                if self.generation.reason is not None:
                    return
                self.generation.sampler.accept(token)
                sampled: Any = SimpleNamespace(token=token, is_stop=False, logprob=-1.0, top_logprobs=[])
                self.events += self.generation.take([sampled])[1]

    @property
    def reasoning(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ReasoningDelta))

    @property
    def answer(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


def asking(**options: Any) -> Request:
    return Request([QUESTION], Sampling(), **options)


def test_a_budget_is_kept_to_the_token(engine: Engine) -> None:
    writer = Writer(engine, asking(thinking_tokens=20))
    writer.write(THOUGHT[:19])
    assert writer.generation.pending == writer.reply.written[-1:]
    writer.write(THOUGHT[19])
    assert writer.generation.pending == [*writer.encode(THOUGHT[19]), *writer.closing]
    assert writer.reply.written == writer.encode(THOUGHT[:20]) + writer.closing
    assert writer.reasoning == THOUGHT[:20] + CLOSING.rstrip()
    assert writer.reply.notes == ["the thinking reached its budget of 20 tokens"]
    writer.write("It is this.")
    assert writer.answer == "It is this."
    assert writer.generation.pending == writer.encode(".")
    assert writer.reply.reasoning_tokens == 20 + len(writer.closing) - len(writer.encode("\n\n"))
    assert len(writer.generation.sampler) == writer.reply.n_tokens == len(writer.reply.written)


def test_the_words_and_the_layout_are_the_familys(engine: Engine) -> None:
    text = engine.tokenizer.decode(closing_tokens(engine.tokenizer))
    sentence = (
        "Considering the limited time by the user, I have to give the solution based on the thinking directly now."
    )
    assert text == f"\n\n{sentence}\n</think>\n\n"
    assert engine.tokenizer.special_tokens["</think>"] in closing_tokens(engine.tokenizer)


def test_a_thought_that_ends_in_time_is_left_alone(engine: Engine) -> None:
    writer = Writer(engine, asking(thinking_tokens=20))
    writer.write("It is short.", "</think>", "\n\nThis." * 20)
    assert writer.reasoning == "It is short."
    assert writer.reply.notes == []


@pytest.mark.parametrize(("limit", "answer"), [(1000, 250), (4096, ANSWER_TOKENS), (20_000, ANSWER_TOKENS)])
@pytest.mark.parametrize("is_context", [True, False])
def test_room_is_kept_for_the_answer(engine: Engine, limit: int, answer: int, is_context: bool) -> None:
    request = asking(breaks_loops=False, max_tokens=0 if is_context else limit)
    writer = Writer(engine, request, room=limit if is_context else 100_000)
    writer.write(THOUGHT * 4, "a" * 2 * answer)
    layout = len(writer.encode("\n\n"))
    assert writer.reply.written.index(writer.special["</think>"]) + 1 + layout == limit - answer
    assert writer.reply.notes == ["the thinking was ended to leave room for the answer"]


def test_a_limit_that_is_too_small_for_both_is_left_as_it_is(engine: Engine) -> None:
    smallest = 2 * len(closing_tokens(engine.tokenizer)) * 4 // 3 + 1
    for limit, is_ended in ((smallest, True), (smallest - 3, False)):
        writer = Writer(engine, asking(max_tokens=limit))
        writer.write(THOUGHT)
        assert bool(writer.reply.notes) is is_ended
        assert (writer.generation.reason, len(writer.reply.written)) == ("length", limit)


def test_nothing_is_put_where_no_answer_would_fit(engine: Engine) -> None:
    n = len(closing_tokens(engine.tokenizer))
    for limit, is_ended in ((n + 11, True), (n + 10, False)):
        writer = Writer(engine, asking(max_tokens=limit, thinking_tokens=10))
        writer.write(THOUGHT)
        assert bool(writer.reply.notes) is is_ended
        assert len(writer.reply.written) == limit


def test_the_answer_is_wanted_now(engine: Engine) -> None:
    writer = Writer(engine, asking())
    writer.write(THOUGHT[:30])
    writer.wants_answer = True
    writer.write(THOUGHT[30], "So.")
    assert writer.reasoning == THOUGHT[:31] + CLOSING.rstrip()
    assert writer.answer == "So."
    assert writer.reply.notes == ["the thinking was ended to answer now"]


def test_a_character_is_not_cut(engine: Engine) -> None:
    writer = Writer(engine, asking(thinking_tokens=4))
    writer.write("ab🙂c")
    assert writer.reasoning == "ab🙂" + CLOSING.rstrip()
    assert "�" not in engine.tokenizer.decode(writer.reply.written)


def test_a_call_is_not_cut(engine: Engine) -> None:
    """It ends the thinking itself; what turns out to be none does not."""
    written = "\n<function=look>\n<parameter=n>\n3\n</parameter>\n</function>\n"
    writer = Writer(engine, asking(thinking_tokens=10, tools=[TOOL]))
    writer.write("so", "<tool_call>", written, "</tool_call>")
    assert [call.arguments for call in writer.reply.message.tool_calls] == [{"n": 3}]
    assert (writer.reasoning, writer.reply.notes) == ("so", [])
    writer = Writer(engine, asking(thinking_tokens=10, tools=[TOOL]))
    writer.write("so", "<tool_call>", " is a tag that I write, and go on")
    assert (
        writer.reasoning == "so<tool_call> is a t"[: len(writer.reasoning) - len(CLOSING.rstrip())] + CLOSING.rstrip()
    )
    assert writer.reply.message.tool_calls == ()


def test_what_was_not_drawn_has_no_logprobs(engine: Engine) -> None:
    writer = Writer(engine, asking(thinking_tokens=5, logprobs=0))
    writer.write("abcde", "Yes.")
    told = [event.token.id for event in writer.events if isinstance(event, Logprobs)]
    assert told == writer.encode("abcdeYes.")


def test_stop_strings_are_looked_for_behind_it(engine: Engine) -> None:
    writer = Writer(engine, asking(thinking_tokens=5, stop=["limited time", "es"]))
    writer.write("abcde", "Yes.")
    assert (writer.answer, writer.generation.reason, writer.reply.stop_string) == ("Y", "stop", "es")


@pytest.mark.parametrize("tokens", [0, -1, 1.5, True, "3"])
def test_a_budget_that_cannot_be(tokens: Any) -> None:
    with pytest.raises(InputError, match=r"thinking_tokens: expected an integer from 1 .* thinking=False is none"):
        asking(thinking_tokens=tokens)


# On models.


def finished(engine: Engine, request: Request) -> tuple[list[Event], Done]:
    *pieces, done = engine.reply(request)
    assert isinstance(done, Done)
    return pieces, done  # type: ignore[return-value]


def endless(engine: Engine) -> Sampling:
    """Neither the turn nor the thinking ends by itself."""
    return replace(WARM, logit_bias=dict.fromkeys(endings(engine), -100.0))


def endings(engine: Engine) -> list[int]:
    tokenizer = engine.tokenizer
    return [*(n for n in tokenizer.end_ids if n < tokenizer.n_used), tokenizer.token_id("</think>")]


def written_by(engine: Engine, done: Done) -> Sequence[int]:
    return engine.reply_log.said_by(done.message)[0].tokens


def test_what_was_put_is_evaluated_as_what_was_drawn(engine: Engine) -> None:
    """Every token that a model without chance draws follows from those before it, the closing ones too."""
    request = Request([QUESTION], replace(endless(engine), temperature=0.0, presence_penalty=0.0), max_tokens=400)
    _, done = finished(engine, replace(request, thinking_tokens=30))
    prompt, written = engine.encode(request).tokens, list(written_by(engine, done))
    closing = closing_tokens(engine.tokenizer)
    first = written.index(engine.tokenizer.token_id("</think>")) - closing.index(engine.tokenizer.token_id("</think>"))
    assert 30 <= first <= 33  # a character is not cut
    assert written[first : first + len(closing)] == closing
    rows = _core.Sequence(engine.model).append([*prompt, *written], logits="all")[len(prompt) - 1 : -1]
    rows[:, endings(engine)] -= 100.0
    rows[:, engine.tokenizer.n_used :] = -np.inf
    drawn = [*range(first), *range(first + len(closing), len(written))]
    assert len(written) == 400
    assert rows.argmax(axis=1)[drawn].tolist() == [written[n] for n in drawn]


def test_the_next_prompt_stands_for_the_same_tokens(engine: Engine) -> None:
    request = Request([QUESTION], endless(engine), thinking_tokens=30, max_tokens=300, keep_thinking=True)
    _, done = finished(engine, request)
    known = [*engine.encode(request).tokens, *written_by(engine, done)]
    follow = replace(request, messages=[QUESTION, done.message, Message("user", "And then?")])
    assert engine.encode(follow).tokens[: len(known)] == known
    _, again = finished(engine, follow)
    assert again.usage.reused_tokens >= len(known) - 1


def test_each_of_several_is_what_its_seed_gives_alone(engine: Engine) -> None:
    request = Request([QUESTION], endless(engine), thinking_tokens=20, max_tokens=200, n=3)
    ends = sorted((event for event in engine.reply(request) if isinstance(event, Done)), key=lambda done: done.choice)
    for n, done in enumerate(ends):
        alone = replace(request, n=1, sampling=replace(request.sampling, seed=7 + n))
        _, expected = finished(Engine(engine.model), alone)
        assert (done.message, done.notes) == (expected.message, expected.notes)
        assert done.notes == ("the thinking reached its budget of 20 tokens",)
        assert finished(engine, alone)[1].message == expected.message  # from the cache


def test_the_embedded_model_answers_after_its_thinking_was_cut(demo: _core.Model) -> None:
    engine = Engine(demo)
    request = Request(
        [Message("user", "What is 12 + 30?")], Sampling(temperature=0.0), thinking=True, thinking_tokens=8
    )
    _, done = finished(engine, request)
    assert done.reason == "stop"
    assert done.message.text
    assert (done.message.reasoning or "").endswith(CLOSING.rstrip())


def test_the_answer_is_wanted_by_another_thread(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    Script(monkeypatch).say(engine, THOUGHT, "</think>", "Late.")
    events: list[Told] = []
    jobs: list[Job] = []
    is_told, is_over = threading.Event(), threading.Event()

    def sink(event: Told) -> None:
        events.append(event)
        if sum(isinstance(event, ReasoningDelta) for event in events) == 10:
            is_told.wait(60)
            jobs[0].answer_now()
        if isinstance(event, Done):
            is_over.set()

    jobs.append(engine.submit(Request([QUESTION], Sampling(), max_tokens=600), sink))
    is_told.set()
    assert is_over.wait(60)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.notes == ("the thinking was ended to answer now",)
    assert len(done.message.reasoning or "") < 40 + len(CLOSING)
