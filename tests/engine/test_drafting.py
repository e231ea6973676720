"""Replies with drafts are the replies without: whatever is drafted, however they end, and whatever runs beside them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from qwen35_local import _core, hub
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.drafting import Drafting
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Failed, Told
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.line import Line
from qwen35_local.engine.reply import Completion, Done, Request
from qwen35_local.errors import InputError
from qwen35_local.models.drafts import MOST_DRAFTS, most_drafts, read_drafts

WEATHER: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NUMBERS = OutputFormat("json_schema", '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}')


class Oracle:
    """Drafts what will be written, as far as `is_right` says so of each place, and else another token."""

    def __init__(self, written: dict[int, list[int]], is_right: Callable[[int], bool]) -> None:
        """`written`: of each choice."""
        self.seconds_saved = 0.0
        self.accepted = self.drafted = 0
        self._written = written
        self._is_right = is_right

    def propose(self, model: _core.Model, lines: Sequence[Line], spare_rows: int) -> None:
        for line in lines:
            reply = line.generation.reply
            coming = self._written[reply.choice][len(reply.written) :]
            drafts = [
                token if self._is_right(len(reply.written) + n) else (token + 1) % 200 for n, token in enumerate(coming)
            ]
            line.put(drafts[: min(MOST_DRAFTS, line.room, spare_rows // len(lines))])
            self.drafted += len(line.drafts)
            line.tuner = self  # type: ignore[assignment]

    def note(self, drafted: int, accepted: int) -> None:
        self.accepted += accepted

    def took(self, lines: Sequence[Line], n_rows: int, seconds: float) -> None:
        pass


PATTERNS: dict[str, Callable[[int], bool]] = {
    "right": lambda n: True,
    "wrong": lambda n: False,
    "alternating": lambda n: n % 2 == 0,
    "mostly right": lambda n: n % 5 != 3,
}


@pytest.fixture(scope="module")
def drafting_demo() -> _core.Model:
    return _core.Model(hub.embedded_model(), threads=1, drafts=MOST_DRAFTS)


def asked(text: str, **options: Any) -> Request:
    sampling = Sampling(temperature=options.pop("temperature", 0.8), seed=options.pop("seed", 3))
    options = {"thinking": False, "max_tokens": 60} | options
    return Request([Message("user", text)], sampling, **options)


REQUESTS: dict[str, Request | Completion] = {
    "plain": asked("Tell me a short story."),
    "greedy": asked("Tell me a short story.", temperature=0.0),
    "hot": replace(asked("Tell me a short story."), sampling=Sampling(temperature=1.7, seed=5, presence_penalty=1.0)),
    "thinking": asked("What is 12 + 30?", thinking=True),
    "a budget": asked("Which number is larger, 9 or 12?", thinking=True, thinking_tokens=9),
    "no thought": asked("Which number is larger, 9 or 12?", thinking=True, thinking_tokens=1),
    "a stop string": asked("Tell me a short story.", stop=("the",)),
    "few tokens": asked("Tell me a short story.", max_tokens=7),
    "a schema": asked("What is 12 + 30?", output_format=NUMBERS),
    "a schema behind thinking": asked("What is 12 + 30?", output_format=NUMBERS, thinking=True),
    "tools": asked("What is the weather in Paris?", tools=(WEATHER,)),
    "a call that is required": asked("Hello!", tools=(WEATHER,), tool_choice=ToolChoice("required")),
    "logprobs": asked("Tell me a short story.", logprobs=3),
    "several": asked("Tell me a short story.", n=3),
    "a loop": replace(asked("Hello!", max_tokens=400), sampling=Sampling(0.0, logit_bias={5: 40.0, 6: 39.0})),
    "a completion": Completion([300, 301, 302], Sampling(temperature=1.0, seed=2), max_tokens=40),
}


def endless(engine: Engine, **options: Any) -> Request:
    """What would end it is never drawn."""
    never = {token: -1e6 for token in engine.tokenizer.end_ids if token < engine.tokenizer.n_used}
    request = asked("Tell me a short story.", breaks_loops=False, **options)
    return replace(request, sampling=Sampling(temperature=1.0, seed=8, logit_bias=never))


def replied(engine: Engine, request: Request | Completion) -> tuple[list[Told], dict[int, Done]]:
    events = list(engine.reply(request) if isinstance(request, Request) else engine.complete(request))
    return events, {event.choice: event for event in events if isinstance(event, Done)}


def same(one: dict[int, Done], other: dict[int, Done]) -> bool:
    """All but how long it took."""

    def timeless(done: Done) -> Done:
        return replace(
            done,
            usage=replace(
                done.usage,
                first_token_seconds=0.0,
                seconds=0.0,
                passes=0,
                drafted_tokens=0,
                accepted_tokens=0,
                drafted_copies=0,
                accepted_copies=0,
                saved_seconds=0.0,
            ),
        )

    return {n: timeless(done) for n, done in one.items()} == {n: timeless(done) for n, done in other.items()}


def written_of(engine: Engine, request: Request | Completion, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The reply, and what was written, token by token."""
    from qwen35_local.engine import engine as module

    replies: dict[int, Any] = {}
    original = module.Reply

    def noting(choice: int = 0) -> Any:
        replies[choice] = original(choice)
        return replies[choice]

    monkeypatch.setattr(module, "Reply", noting)
    _, dones = replied(engine, request)
    monkeypatch.undo()
    return dones, {choice: reply.written for choice, reply in replies.items()}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_a_reply_is_the_one_without_drafts(
    demo: _core.Model, drafting_demo: _core.Model, name: str, kv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = REQUESTS[name]
    expected, written = written_of(Engine(demo, kv=kv), request, monkeypatch)
    for pattern, is_right in PATTERNS.items():
        oracle = Oracle(written, is_right)
        engine = Engine(drafting_demo, kv=kv, drafting=oracle)
        _, dones = replied(engine, request)
        assert same(dones, expected), pattern
        if pattern == "wrong":
            assert oracle.accepted == 0
        elif pattern == "right" and max(map(len, written.values())) > 3:
            assert oracle.accepted > 0


@pytest.mark.parametrize("draft", ["auto", 1, 8])
def test_the_engines_own_drafts(demo: _core.Model, drafting_demo: _core.Model, draft: Any) -> None:
    """Of several users at once, whose conversations go on; in passes that hold prompts too."""
    engine = Engine(drafting_demo, limits=Limits(parallel=4), drafting=Drafting(draft))
    plain = Engine(demo)
    talks = [
        [Message("user", f"{text} My number is {n}.")] for n, text in enumerate(["What is 12 + 30?", "Hello!"] * 3)
    ]
    for turn in range(3):
        requests = [
            Request(talk, Sampling(temperature=0.8, seed=turn + n), thinking=n % 2 == 0, max_tokens=40)
            for n, talk in enumerate(talks)
        ]
        told: list[list[Told]] = [[] for _ in requests]
        jobs = [engine.submit(request, told[n].append) for n, request in enumerate(requests)]
        assert len(jobs) == len(requests)
        for n, request in enumerate(requests):
            _, expected = replied(plain, request)
            deadline = time.monotonic() + 60
            while not (told[n] and isinstance(told[n][-1], Done | Failed)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            done = told[n][-1]
            assert isinstance(done, Done)
            assert done.message == expected[0].message and done.reason == expected[0].reason
            talks[n] = [*talks[n], done.message, Message("user", "And 9 + 8?")]
        if draft != "auto":
            usages = [each[-1].usage for each in told if isinstance(each[-1], Done)]
            assert sum(usage.drafted_tokens for usage in usages) > sum(usage.accepted_tokens for usage in usages) > 0


def test_the_end_of_the_context(drafting_demo: _core.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _core.Model(hub.embedded_model(), threads=1, context_tokens=128, drafts=MOST_DRAFTS)
    plain = _core.Model(hub.embedded_model(), threads=1, context_tokens=128)
    request = endless(Engine(plain), max_tokens=0)
    expected, written = written_of(Engine(plain), request, monkeypatch)
    assert expected[0].reason == "context"
    for is_right in PATTERNS.values():
        _, dones = replied(Engine(model, drafting=Oracle(written, is_right)), request)
        assert same(dones, expected)


def test_where_a_cancelled_reply_stands(demo: _core.Model, drafting_demo: _core.Model, monkeypatch: Any) -> None:
    """What was written is a beginning of the whole reply, and the conversation goes on from it without reading it."""
    request = endless(Engine(demo))
    expected, written = written_of(Engine(demo), request, monkeypatch)
    for after in range(1, 12):
        engine = Engine(drafting_demo, drafting=Oracle(written, PATTERNS["mostly right"]))
        events = engine.reply(request)
        for _ in range(after):
            next(events)
        engine.cancel()
        *_, done = events
        assert isinstance(done, Done) and done.reason == "cancelled"
        assert expected[0].message.text.startswith(done.message.text)
        again = replied(engine, request)[1][0]
        assert again.message == expected[0].message


def test_keys_and_values_that_are_short(demo: _core.Model, drafting_demo: _core.Model) -> None:
    """Drafts take what is spare, and no more."""
    limits = Limits(parallel=3, kv_tokens=400)
    engine = Engine(drafting_demo, limits=limits, drafting=Drafting(8))
    requests = [asked(f"Tell me a short story about {n} foxes.", seed=n, max_tokens=90) for n in range(4)]
    told: list[list[Told]] = [[] for _ in requests]
    for n, request in enumerate(requests):
        engine.submit(request, told[n].append)
    for n, request in enumerate(requests):
        deadline = time.monotonic() + 60
        while not (told[n] and isinstance(told[n][-1], Done | Failed)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        done = told[n][-1]
        assert isinstance(done, Done), done
        assert done.message == replied(Engine(demo), request)[1][0].message


def test_what_repeats_is_copied() -> None:
    """Nothing but what came before is drafted."""
    text = "one two three four five six seven eight nine ten. " * 6
    copied = Drafting(4)
    model = _core.Model(hub.embedded_model(), threads=1, drafts=4)
    engine = Engine(model, drafting=copied)
    done = replied(engine, Completion(engine.tokenizer.encode(text), Sampling(temperature=0.0), max_tokens=30))[1][0]
    assert done.usage.drafted_tokens > 0


def test_what_draft_may_be() -> None:
    assert [most_drafts(draft) for draft in ("auto", "off", 0, 3, 8)] == [MOST_DRAFTS, 0, 0, MOST_DRAFTS, MOST_DRAFTS]
    assert [read_drafts(word) for word in ("auto", "off", "0", "8")] == ["auto", "off", 0, 8]
    for wrong in (-1, 9, "on", True, 1.0, None):
        with pytest.raises(InputError, match="auto, off, or 0 to 8"):
            most_drafts(wrong)  # type: ignore[arg-type]
    for word in ("", "on", "-1", "9", "1.0", "²", "9" * 5000):
        with pytest.raises(InputError, match="auto, off, or 0 to 8"):
            read_drafts(word)


def test_random_drafts_on_random_requests(demo: _core.Model, drafting_demo: _core.Model) -> None:
    from qwen35_local.engine.recorder import RandomDrafts

    for seed in range(20):
        random = Random(seed)
        request = random.choice(list(REQUESTS.values()))
        expected = replied(Engine(demo), request)[1]
        assert same(replied(Engine(drafting_demo, drafting=RandomDrafts(random)), request)[1], expected), seed
