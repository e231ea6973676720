"""Several replies of one prompt: each is the one it would be alone, and the prompt is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.cached_sequence import Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Compacted, Completion, Done, Event, Request, Reuse
from qwen35_local.engine.task import SIDE_BY_SIDE
from qwen35_local.errors import InputError
from qwen35_local.models.kv import KvFormat

# Seeds that begin again at 0, and enough of each penalty that replies which shared their counts would differ.
WARM = Sampling(
    temperature=1.5, top_k=40, repetition_penalty=1.2, presence_penalty=1.0, frequency_penalty=1.0, seed=2**64 - 2
)
LONG = [Message("user", "Which of these? " * 80)]  # a token per byte: most of it is in packed pages
N = SIDE_BY_SIDE + 3


def told(events: Iterator[Event]) -> list[list[Event]]:
    """By choice, as if each were alone."""
    found: dict[int, list[Event]] = {}
    for event in events:
        assert not isinstance(event, Compacted)
        found.setdefault(event.choice, []).append(replace(event, choice=0))
    return [found[choice] for choice in range(len(found))]


def dones(choices: list[list[Event]]) -> list[Done]:
    ends = []
    for *pieces, done in choices:
        assert isinstance(done, Done)
        assert not any(isinstance(piece, Done) for piece in pieces)
        ends.append(done)
    return ends


def but_for_the_cost(events: Sequence[Event]) -> list[Event]:
    *pieces, done = events
    assert isinstance(done, Done)
    usage = replace(done.usage, reused_tokens=0, evaluated_tokens=0, first_token_seconds=0.0, seconds=0.0)
    logprobs = tuple(replace(one, choice=0) for one in done.logprobs)
    return [*pieces, replace(done, usage=usage, reuse=Reuse(), logprobs=logprobs)]


@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("has_template", [True, False])
def test_each_is_what_its_seed_gives_alone(talker: Path, kv: KvFormat, has_template: bool) -> None:
    model = _core.Model(talker)
    engine = Engine(model, kv=kv)
    options: dict[str, Any] = {"max_tokens": 12, "stop": ["e", "q", "us"], "logprobs": 2}

    def ask(engine: Engine, sampling: Sampling, n: int) -> list[list[Event]]:
        request = Request(LONG, sampling, thinking=False, n=n, **options)
        if has_template:
            return told(engine.reply(request))
        return told(engine.complete(Completion(engine.encode(request).tokens, sampling, n=n, **options)))

    together = ask(engine, WARM, N)
    assert len(together) == N
    for choice, events in enumerate(together):
        (alone,) = ask(Engine(model, kv=kv), WARM.of_choice(choice), 1)
        assert but_for_the_cost(events) == but_for_the_cost(alone)
    ends = dones(together)
    assert {"stop", "length"} == {done.reason for done in ends}
    assert any(done.stop_string for done in ends)
    assert len({done.message.text for done in ends}) > N // 2
    assert told_alike(ask(engine, WARM, N), together)


def told_alike(one: list[list[Event]], other: list[list[Event]]) -> bool:
    return list(map(but_for_the_cost, one)) == list(map(but_for_the_cost, other))


def test_seeds_follow_each_other() -> None:
    assert [WARM.of_choice(choice).seed for choice in range(4)] == [2**64 - 2, 2**64 - 1, 0, 1]
    assert Sampling().of_choice(3).seed is None


def test_the_prompt_is_read_once(demo: _core.Model) -> None:
    read: list[int] = []

    def counted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        read.extend(len(part.rows) for part in parts if part.sampler is None)
        return evaluate(model, parts)

    engine = Engine(demo, evaluate=counted)
    request = Request([Message("user", "Tell me a short story.")], WARM, max_tokens=20, n=3)
    first, *others = dones(told(engine.reply(request)))
    assert first.usage.evaluated_tokens == first.usage.prompt_tokens == sum(read)
    for done in others:
        assert (done.usage.reused_tokens, done.usage.evaluated_tokens) == (first.usage.prompt_tokens, 0)
        assert done.reuse.source == "the prompt of the first reply"
    again = dones(told(engine.reply(request)))
    assert [done.usage.evaluated_tokens for done in again] == [0, 0, 0]
    assert sum(read) == first.usage.prompt_tokens


def test_a_pass_is_one_token_of_each(talker: Path) -> None:
    widths: list[int] = []

    def counted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        widths.append(len(parts))
        return evaluate(model, parts)

    engine = Engine(_core.Model(talker), evaluate=counted)
    endless = replace(WARM, logit_bias={engine.tokenizer.token_id("<|im_end|>"): -100.0})
    engine.prefill(Request([Message("user", "Which?")], endless))
    ends = dones(told(engine.reply(Request([Message("user", "Which?")], endless, max_tokens=5, n=N))))
    assert {done.reason for done in ends} == {"length"}
    assert widths == [SIDE_BY_SIDE] * 4 + [N - SIDE_BY_SIDE] * 4


def test_their_states_take_the_place_of_snapshots(talker: Path) -> None:
    """As many at a time as half of the budget has states for; memory stays within it, which is whole again then."""
    widths: list[int] = []

    def counted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        widths.append(len(parts))
        if len(parts) > 1:
            assert cache.n_bytes <= cache.budget_bytes <= budget - len(parts) * state
        return evaluate(model, parts)

    model = _core.Model(talker)
    state = _core.Sequence(model).snapshot().n_bytes
    budget = 7 * state
    engine = Engine(model, cache_bytes=budget, evaluate=counted)
    cache = engine.cache
    for word in ("Which?", "Why?", "Where?", "Who?"):  # leave snapshots
        dones(told(engine.reply(Request([Message("user", word)], WARM, max_tokens=5))))
    assert cache.n_bytes > budget - 3 * state
    endless = replace(WARM, logit_bias={engine.tokenizer.token_id("<|im_end|>"): -100.0})
    dones(told(engine.reply(Request([Message("user", "How?")], endless, max_tokens=5, n=N))))
    assert max(widths) == 3
    assert cache.budget_bytes == budget


def test_the_conversation_goes_on_from_any_of_them(demo: _core.Model) -> None:
    """At once from the first; of another its tokens are read, the very ones that were written."""
    question = Message("user", "Tell me a short story.")
    request = Request([question], Sampling(temperature=1.0, seed=5), keep_thinking=True, max_tokens=80, n=3)
    for choice in (0, 2):
        engine = Engine(demo)
        done = dones(told(engine.reply(request)))[choice]
        n_read = done.usage.prompt_tokens
        held = tuple(engine._cached.keys[n_read:].tolist())
        written = engine.reply_log.said_by(done.message)[0].tokens
        assert done.reason == "stop"
        assert (held == written) == (choice == 0)
        goes_on = replace(request, messages=[question, done.message, Message("user", "Go on.")], max_tokens=1, n=1)
        assert tuple(engine.encode(goes_on).tokens[n_read : n_read + len(written)]) == written
        (end,) = dones(told(engine.reply(goes_on)))
        assert end.usage.reused_tokens == n_read + (len(held) if choice == 0 else 0)


def test_of_replies_that_say_the_same_the_first_is_meant(demo: _core.Model) -> None:
    question = Message("user", "What is the capital of France?")
    engine = Engine(demo)
    greedy = Request([question], Sampling(temperature=0.0), max_tokens=80, n=3)
    ends = dones(told(engine.reply(greedy)))
    assert len({done.message.text for done in ends}) == 1
    for sampling in (replace(WARM, seed=seed, temperature=0.6) for seed in range(8)):
        first, *_ = dones(told(engine.reply(replace(greedy, sampling=sampling))))
        shown = Message("assistant", first.message.text)
        assert engine.reply_log.recognised(shown).reasoning == first.message.reasoning


@pytest.mark.parametrize("n", [2, N])
@pytest.mark.parametrize("after", [0, 15])
def test_cancelling_ends_all_of_them(talker: Path, n: int, after: int) -> None:
    engine = Engine(_core.Model(talker))
    ends = [token for token in engine.tokenizer.end_ids if token < engine.tokenizer.n_used]
    endless = replace(WARM, logit_bias=dict.fromkeys(ends, -100.0))
    request = Request([Message("user", "Which?")], endless, max_tokens=20, n=n)
    whole = told(engine.reply(request))
    found: list[Event] = []
    for event in engine.reply(request):
        if len(found) == after:
            engine.cancel()
        found.append(event)
    cut = told(iter(found))
    assert len(cut) == n
    assert "cancelled" in {done.reason for done in dones(cut)}
    for done, expected in zip(dones(cut), dones(whole), strict=True):
        if done.reason == "cancelled":
            assert (expected.message.reasoning or "").startswith((done.message.reasoning or "").rstrip("�"))
            assert done.usage.generated_tokens < expected.usage.generated_tokens
        else:
            assert done.message == expected.message
    assert told_alike(told(engine.reply(request)), whole)


def test_cancelling_the_prompt_ends_all_of_them(demo: _core.Model) -> None:
    engine = Engine(demo)
    engine._cached.chunk_tokens = 100
    request = Request([Message("user", "What is 12 + 30? " * 60)], WARM, max_tokens=4, n=3)
    ends = dones(told(engine.reply(request, progress=lambda done, total: engine.cancel() if done else None)))
    assert [done.reason for done in ends] == ["cancelled"] * 3
    assert [done.usage.generated_tokens for done in ends] == [0] * 3
    assert ends[0].usage.evaluated_tokens == ends[1].usage.reused_tokens == 100


def test_the_context_ends_each(talker: Path) -> None:
    engine = Engine(_core.Model(talker, context_tokens=64))
    ends = dones(told(engine.reply(Request([Message("user", "Which?")], WARM, n=N))))
    assert "context" in {done.reason for done in ends}
    for done in ends:
        if done.reason == "context":
            assert done.usage.prompt_tokens + done.usage.generated_tokens == 64


def test_an_error_in_one_ends_all_and_the_engine_lives(talker: Path) -> None:
    forbids = [False]

    def forbidding(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        if forbids[0] and len(parts) > 1 and parts[1].sampler is not None:
            parts[1].sampler.set_mask(np.zeros(1, np.uint32))
        return evaluate(model, parts)

    engine = Engine(_core.Model(talker), evaluate=forbidding)
    request = Request([Message("user", "Which?")], WARM, max_tokens=20, n=3)
    whole = told(engine.reply(request))
    forbids[0] = True
    with pytest.raises(InputError):
        list(engine.reply(request))
    forbids[0] = False
    assert told_alike(told(engine.reply(request)), whole)


@pytest.mark.parametrize("n", [0, -1, 129, 1.5, True, "3", None])
def test_a_number_that_cannot_be(n: Any) -> None:
    for make in (lambda: Request(LONG, WARM, n=n), lambda: Completion([1], WARM, n=n)):
        with pytest.raises(InputError, match=r"n: expected an integer from 1 to 128, got"):
            make()
