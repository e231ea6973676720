"""Conversations over the embedded model: what is read, what is reused, and that neither changes an answer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.chat.events import ReasoningDelta, TextDelta
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.cache import PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import ContextFull, Done, Event, Request

GREEDY = Sampling(temperature=0.0)
TURNS = ["My name is Ann.", "What is 12 + 30?", "What is the capital of Italy?", "What is my name?"]


def ask(engine: Engine, messages: Sequence[Message], **options: object) -> Done:
    request = replace(Request(messages, GREEDY, max_tokens=80), **options)  # type: ignore[arg-type]
    *_, done = engine.reply(request)
    assert isinstance(done, Done)
    return done


def talk(engine: Engine, turns: Sequence[str], thinking: bool | None = None) -> Iterator[tuple[list[Message], Done]]:
    messages: list[Message] = []
    for turn in turns:
        messages.append(Message("user", turn))
        done = ask(engine, messages, thinking=thinking)
        yield list(messages), done
        messages.append(done.message)


@pytest.mark.parametrize("thinking", [True, False])
def test_a_warm_conversation_answers_as_a_cold_one(demo: _core.Model, thinking: bool) -> None:
    warm = Engine(demo)
    for messages, done in talk(warm, TURNS, thinking):
        cold = ask(Engine(demo), messages, thinking=thinking)
        assert done.message == cold.message
        assert cold.usage.reused_tokens == 0


@pytest.mark.parametrize("thinking", [True, False])
def test_nothing_is_read_twice(demo: _core.Model, thinking: bool) -> None:
    """Of a later prompt only the last reply (without its thinking), the new message and the opening are read."""
    engine = Engine(demo)
    history: list[tuple[list[Message], Done]] = list(talk(engine, TURNS, thinking))
    for (_, before), (messages, done) in pairwise(history):
        new = engine.tokenizer.encode(messages[-2].text + messages[-1].text)
        usage = done.usage
        assert usage.reused_tokens >= before.usage.prompt_tokens - 4
        assert usage.evaluated_tokens <= len(new) + 16
        assert usage.reused_tokens + usage.evaluated_tokens == usage.prompt_tokens


def test_retry_reads_nothing(demo: _core.Model) -> None:
    engine = Engine(demo)
    messages = [Message("user", "What is the capital of France?")]
    first = ask(engine, messages)
    again = ask(engine, messages)
    assert again.message == first.message
    assert again.usage.evaluated_tokens == 0


def test_an_edited_message_reads_from_the_edit(demo: _core.Model) -> None:
    engine = Engine(demo)
    system = Message("system", "You are a helpful program. " * 20)
    ask(engine, [system, Message("user", "Hello!")])
    edited = ask(engine, [system, Message("user", "What is 3 + 4?")])
    assert edited.usage.reused_tokens > 60
    assert edited.message == ask(Engine(demo), [system, Message("user", "What is 3 + 4?")]).message


def test_events_add_up_to_the_message(demo: _core.Model) -> None:
    events: list[Event] = list(
        Engine(demo).reply(Request([Message("user", "What is 20 + 22?")], GREEDY, max_tokens=80))
    )
    done = events[-1]
    assert isinstance(done, Done)
    assert done.message.text == "".join(e.text for e in events if isinstance(e, TextDelta))
    assert done.message.reasoning == "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert done.usage.generated_tokens >= done.usage.reasoning_tokens > 0


def test_cancel_ends_the_reply_and_the_next_one_is_right(demo: _core.Model) -> None:
    engine = Engine(demo)
    messages = [Message("user", "Tell me a short story.")]
    expected = ask(Engine(demo), messages)
    reply = engine.reply(Request(messages, GREEDY, max_tokens=80))
    next(reply)
    engine.cancel()
    *_, done = reply
    assert isinstance(done, Done)
    assert done.reason == "cancelled"
    assert ask(engine, messages).message == expected.message


def test_a_conversation_beyond_the_context_is_refused_and_the_engine_lives(demo: _core.Model) -> None:
    from qwen35_local import hub

    engine = Engine(_core.Model(hub.embedded_model(), context_tokens=64))
    for when_full in ("stop", "compact"):
        with pytest.raises(ContextFull, match=r"the prompt is \d+ tokens and the context 64; shorten it, or load"):
            ask(engine, [Message("user", "word " * 100)], when_full=when_full)
    assert ask(engine, [Message("user", "Hello!")]).message.text


def test_a_full_context_ends_the_reply(demo: _core.Model) -> None:
    from qwen35_local import hub

    engine = Engine(_core.Model(hub.embedded_model(), context_tokens=32))
    done = ask(engine, [Message("user", "Tell me a short story.")])
    assert done.reason == "context"
    assert done.usage.prompt_tokens + done.usage.generated_tokens == 32
    assert engine.tokens_held <= 32


def test_marks_stay_under_the_budget(demo: _core.Model) -> None:
    cached_sequence = CachedSequence(_core.Sequence(demo), PrefixCache(1))
    tokens = list(range(100, 164))
    read(cached_sequence, tokens, [16, 32, 48, 64])
    branch = [*tokens[:40], 7]
    assert len(cached_sequence.cache) == 1
    assert cached_sequence.seek(branch).reused == 0
    np.testing.assert_array_equal(read(cached_sequence, branch), read(CachedSequence(_core.Sequence(demo)), branch))


def test_states_in_other_memory_have_a_budget_of_their_own(demo: _core.Model) -> None:
    """And pages of the sequence cost none of it."""
    ends = [256, 512, 768, 1024]  # of whole pages, which the sequence goes on sharing
    tokens = [100 + i % 300 for i in range(1024)]
    cached_sequence = CachedSequence(_core.Sequence(demo), PrefixCache(0, host_bytes=1 << 30))
    read(cached_sequence, tokens, ends)
    cache = cached_sequence.cache
    assert sorted(len(entry.keys) for entry in cache) == ends
    cache.host_bytes = 5 * max(entry.own_bytes for entry in cache) // 2
    read(cached_sequence, [*tokens, 7], [1025])
    assert len(cache) == 2


def test_a_branch_starts_from_the_longest_mark(demo: _core.Model) -> None:
    cached_sequence = CachedSequence(_core.Sequence(demo))
    tokens = list(range(100, 164))
    read(cached_sequence, tokens, [16, 32, 48, 64])
    branch = [*tokens[:40], 7]
    assert cached_sequence.seek(branch).reused == 32
    np.testing.assert_array_equal(read(cached_sequence, branch), read(CachedSequence(_core.Sequence(demo)), branch))


def test_a_page_counts_once(demo: _core.Model) -> None:
    """What the cache says it holds is what its snapshots hold, while some of them go."""
    cached_sequence = CachedSequence(_core.Sequence(demo))
    tokens = list(range(100, 900))
    read(cached_sequence, tokens, range(50, 800, 50))
    read_again = [*tokens[:300], *range(2000, 2400)]
    cached_sequence.seek(read_again)
    read(cached_sequence, read_again, range(50, 700, 50))
    cache = cached_sequence.cache
    for entry in cache:
        held = [e for e in cache if e.snapshot is not None]
        pages = {page.id: page.n_bytes for e in held for page in e.snapshot.pages}
        assert cache.n_bytes == sum(pages.values()) + sum(e.own_bytes for e in held)
        cache.remove(entry)
    assert cache.n_bytes == 0


def read(
    cached_sequence: CachedSequence, tokens: Sequence[int], checkpoints: Sequence[int] = ()
) -> NDArray[np.float32]:
    logits = cached_sequence.read(tokens, dict.fromkeys(checkpoints, "here"))
    assert logits is not None
    return logits
