"""What each thing one does in a conversation costs, to the token, and that its logits are those of a cold run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.cached_sequence import Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Compacted, Done, Request
from qwen35_local.errors import InputError

GREEDY = Sampling(temperature=0.0)
SYSTEM = Message("system", "You are a helpful program that answers questions about sums and towns. " * 4)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


class Talk:
    """A conversation whose every prompt is checked against a cold run; `done` is the last reply."""

    def __init__(self, model: _core.Model, **options: Any) -> None:
        engine_options = {key: options.pop(key) for key in ("cache_bytes",) if key in options}
        self.engine = Engine(model, **engine_options)
        self.request = Request([SYSTEM], GREEDY, max_tokens=60, **options)
        self.messages: list[Message] = []
        self.done: Done

    def ask(self, *messages: Message | str, prefill_ahead: bool = True) -> tuple[int, int]:
        """Adds to the conversation and has it answered; returns how many tokens were reused and evaluated."""
        self.messages += [Message("user", m) if isinstance(m, str) else m for m in messages]
        request = replace(self.request, messages=[SYSTEM, *self.messages])
        prefilled = self.engine.prefill(request)
        tokens = prefilled.encoded.tokens
        np.testing.assert_array_equal(prefilled.logits, cold(self.engine.model, tokens))
        *_, done = self.engine.reply(request)
        assert isinstance(done, Done)
        assert done.reuse.evaluated_tokens == 0  # the prompt stands
        self.done = done
        self.messages.append(done.message)
        if prefill_ahead:
            self.engine.prefill_ahead(request, done.message)
            self.engine.finish_idle()
        return prefilled.start.reused, len(tokens) - prefilled.start.reused

    def new_tokens(self, *messages: Message | str) -> int:
        """How many tokens of the prompt are new messages and the opening."""
        before = self.engine.encode(replace(self.request, messages=[SYSTEM, *self.messages, Message("user", "")]))
        new = [Message("user", m) if isinstance(m, str) else m for m in messages]
        after = self.engine.encode(replace(self.request, messages=[SYSTEM, *self.messages, *new]))
        return len(after.tokens) - before.ends[-3]


def cold(model: _core.Model, tokens: Sequence[int]) -> NDArray[np.float32]:
    return _core.Sequence(model).append(tokens)[-1]


@pytest.fixture(params=[True, False], ids=["thinking", "direct"])
def talk(demo: _core.Model, request: pytest.FixtureRequest) -> Iterator[Talk]:
    with Talk(demo, thinking=request.param).engine as engine:
        talk = Talk(demo, thinking=request.param)
        talk.engine = engine
        yield talk


def test_appending_reads_what_was_typed(talk: Talk) -> None:
    talk.ask("What is 12 + 30?")
    for question in ("What is the capital of Italy?", "Thank you!", "What is 3 + 4?"):
        expected = talk.new_tokens(question)
        assert talk.ask(question)[1] == expected < 40


def test_regenerating_reads_nothing(talk: Talk) -> None:
    talk.ask("What is 12 + 30?")
    before = talk.messages.pop()
    assert talk.ask()[1] == 0
    assert talk.done.message == before


def test_an_edit_reads_from_the_edited_message(talk: Talk) -> None:
    for question in ("What is 12 + 30?", "What is the capital of Italy?", "Thank you!"):
        talk.ask(question)
    del talk.messages[2:]
    expected = talk.new_tokens("What is the capital of France?")
    assert talk.ask("What is the capital of France?")[1] == expected


def test_undoing_reads_what_is_said_instead(talk: Talk) -> None:
    for question in ("What is 12 + 30?", "What is the capital of Italy?"):
        talk.ask(question)
    del talk.messages[-2:]
    expected = talk.new_tokens("Hello!")
    assert talk.ask("Hello!")[1] == expected


def test_a_branch_and_back(talk: Talk) -> None:
    talk.ask("My name is Ann.")
    trunk = list(talk.messages)
    talk.ask("What is 12 + 30?")
    one = list(talk.messages)
    talk.messages = trunk
    expected = talk.new_tokens("What is the capital of Italy?")
    assert talk.ask("What is the capital of Italy?")[1] == expected
    talk.messages = one
    expected = talk.new_tokens("What is my name?")
    assert talk.ask("What is my name?")[1] == expected


def test_two_conversations_share_a_system_prompt(talk: Talk) -> None:
    talk.ask("My name is Ann.")
    n_system = talk.engine.encode(replace(talk.request, messages=[SYSTEM, Message("user", "a")])).ends[0]
    talk.messages = []
    reused, _ = talk.ask("What is 12 + 30?")
    assert reused == n_system


def test_tool_results_read_what_the_tool_said(demo: _core.Model) -> None:
    """Also when the call comes back from a client that shows no thinking; a question then strips all of it."""
    call = ToolCall("look", {"town": "Rome"})
    for shown in ("hm", None):
        talk = Talk(demo, tools=TOOLS, thinking=True)
        talk.ask("What is the weather in Rome?")
        wrote_call(talk, "hm\n</think>\n\n<tool_call>\n<function=look>\n<parameter=town>\nRome\n</parameter>\n", call)
        talk.messages[-1] = replace(talk.messages[-1], reasoning=shown)
        _, evaluated = talk.ask(Message("tool", "sunny"))
        said = talk.engine.tokenizer.encode("\n<tool_response>\nsunny\n</tool_response>")
        assert evaluated <= len(said) + 12
        expected = talk.new_tokens("Thank you!")
        assert talk.ask("Thank you!")[1] == expected


def wrote_call(talk: Talk, text: str, call: ToolCall) -> None:
    """Makes the last reply one that the model could have written: thinking, then a call."""
    engine = talk.engine
    request = replace(talk.request, messages=[SYSTEM, *talk.messages[:-1]])
    encoded = engine.prefill(request).encoded
    special = engine.tokenizer.special_tokens
    parts = text.replace("</think>", "|</think>|").replace("<tool_call>", "|<tool_call>|").split("|")
    ids = [n for part in parts for n in ([special[part]] if part in special else engine.tokenizer.encode(part))]
    ids += [*engine.tokenizer.encode("</function>\n"), special["</tool_call>"]]
    engine._cached.read([*encoded.tokens, *ids], {})
    from qwen35_local.engine.reply import Reply

    reply = Reply()
    reply.written = ids
    reply.message = Message("assistant", reasoning="hm", tool_calls=(call,))
    engine._prompts.keep(encoded, reply)
    talk.messages[-1] = reply.message
    engine.prefill_ahead(request, reply.message)
    engine.finish_idle()


@pytest.mark.parametrize("thinking", [True, False])
def test_kept_thinking_is_not_read_again(demo: _core.Model, thinking: bool) -> None:
    talk = Talk(demo, thinking=thinking, keep_thinking=True)
    talk.ask("What is 12 + 30?", prefill_ahead=False)
    for question in ("What is the capital of Italy?", "Thank you!"):
        expected = len(talk.engine.tokenizer.encode(question)) + 20
        assert talk.ask(question, prefill_ahead=False)[1] <= expected


def test_an_unfinished_settling_is_gone_on_with(talk: Talk) -> None:
    talk.ask("Tell me a short story.", prefill_ahead=False)
    request = replace(talk.request, messages=[SYSTEM, *talk.messages[:-1]])
    prefilled = talk.engine._prompts.ahead([SYSTEM, *talk.messages], request)
    talk.engine.prefill_ahead(request, talk.messages[-1])
    talk.engine.close()
    reused, evaluated = talk.ask("Thank you!")
    assert reused + evaluated <= prefilled.last_turn_at + 20
    assert talk.done.reuse.reused_tokens == reused + evaluated


def test_what_is_settled_is_not_settled_again(talk: Talk) -> None:
    """Also from the snapshot alone, as after a restart."""
    talk.ask("Tell me a short story.")
    request = replace(talk.request, messages=[SYSTEM, *talk.messages[:-1]])
    for _ in "12":
        before = talk.engine._scheduler.idle_tokens
        talk.engine.prefill_ahead(request, talk.messages[-1])
        talk.engine.finish_idle()
        assert talk.engine._scheduler.idle_tokens == before
        talk.engine.prefill(replace(talk.request, messages=[SYSTEM, Message("user", "Hello!")]))
    expected = talk.new_tokens("Thank you!")
    assert talk.ask("Thank you!")[1] == expected


def test_what_was_asked_meanwhile_is_not_put_away(demo: _core.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ahead that begins behind a later reply would cut its sequence back."""
    engine = Engine(demo)
    asked, later = (Request([Message("user", text)], Sampling(temperature=0)) for text in ("Hello!", "Hi there."))
    *_, done = engine.reply(asked)
    assert isinstance(done, Done)
    ahead = engine._prompts.ahead

    def while_asking(*arguments: Any) -> Any:
        list(engine.reply(later))
        return ahead(*arguments)

    monkeypatch.setattr(engine._prompts, "ahead", while_asking)
    before = engine._scheduler.idle_tokens
    engine.prefill_ahead(asked, done.message)
    engine.finish_idle()
    assert engine._scheduler.idle_tokens == before
    monkeypatch.undo()
    engine.prefill_ahead(asked, done.message)
    engine.finish_idle()
    assert engine._scheduler.idle_tokens > before


def test_idle_work_goes_on_in_short_passes(demo: _core.Model) -> None:
    lengths: list[int] = []

    def noted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        lengths.extend(len(part.rows) for part in parts)
        return evaluate(model, parts)

    engine = Engine(demo, evaluate=noted)
    request = Request([SYSTEM, Message("user", "What is 12 + 30? " * 60)], GREEDY, max_tokens=4)
    list(engine.reply(request))
    assert 64 < max(lengths) <= demo.pass_rows
    lengths.clear()
    engine.prefill_ahead(request, Message("assistant", "Words. " * 100))
    engine.finish_idle()
    assert max(lengths) == 64


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_prompt_goes_on_where_it_stopped(demo: _core.Model, after: int) -> None:
    engine = Engine(demo)
    engine._cached.chunk_tokens = 100
    messages = [SYSTEM, Message("user", "What is 12 + 30? " * 60)]
    request = Request(messages, GREEDY, max_tokens=4)
    calls = count()
    *_, done = engine.reply(request, progress=lambda done, total: engine.cancel() if next(calls) == after else None)
    assert isinstance(done, Done)
    assert done.reason == "cancelled"
    read = done.reuse.evaluated_tokens
    assert 0 < read < done.usage.prompt_tokens
    other = Request([Message("user", "Hello!")], GREEDY, max_tokens=4)
    *_, _ = engine.reply(other)
    prefilled = engine.prefill(request)
    assert prefilled.start.reused == read
    np.testing.assert_array_equal(prefilled.logits, cold(demo, prefilled.encoded.tokens))


def test_a_tiny_budget_costs_time_and_no_bits(demo: _core.Model) -> None:
    talk = Talk(demo, cache_bytes=1)
    for question in ("What is 12 + 30?", "What is the capital of Italy?"):
        talk.ask(question)
        assert len(talk.engine.cache) == 1
    talk.messages = talk.messages[:2]
    talk.ask("Thank you!")


def test_what_was_generated_is_recognised_as_text(demo: _core.Model) -> None:
    """Tokens that the text would not be cut into: the conversation stands for them, in a cold engine too."""
    engine = Engine(demo)
    request = Request([Message("user", "Hello!")], GREEDY, thinking=False, keep_thinking=True)
    encoded = engine.encode(request)
    letters = [engine.tokenizer.encode(letter)[0] for letter in "Hello there"]
    assert letters != engine.tokenizer.encode("Hello there")
    from qwen35_local.engine.reply import Reply

    reply = Reply()
    reply.written, reply.message = letters, Message("assistant", "Hello there", reasoning="")
    engine._prompts.keep(encoded, reply)
    follow = replace(request, messages=[*request.messages, Message("assistant", "Hello there"), Message("user", "Hi")])
    tokens = engine.encode(follow).tokens
    at = len(encoded.tokens)
    assert tokens[:at] == encoded.tokens
    assert tokens[at : at + len(letters)] == letters
    other = replace(follow, messages=[*request.messages, Message("assistant", "Hello there!"), Message("user", "Hi")])
    assert engine.encode(other).tokens[at : at + len(letters)] != letters
    stripped = replace(follow, keep_thinking=None)
    assert engine.encode(stripped).tokens == Engine(demo).encode(stripped).tokens


def test_why_names_the_first_token_that_differed(demo: _core.Model) -> None:
    talk = Talk(demo, thinking=False)
    talk.ask("What is 12 + 30?")
    talk.messages = []
    request = replace(talk.request, messages=[SYSTEM, Message("user", "What is 12 + 31?")])
    *_, done = talk.engine.reply(request)
    assert isinstance(done, Done)
    assert done.reuse.source == "the end of the system prompt"
    assert done.reuse.difference is not None
    position, known, prompt = vars(done.reuse.difference).values()
    tokens = talk.engine.encode(request).tokens
    assert talk.engine.tokenizer.decode(tokens[position:]).startswith(prompt[:3])
    assert known.startswith(("0?", "30?"))
    assert prompt[:2] in ("1?", "31")


def test_compacting_drops_the_oldest_turns_aloud(demo: _core.Model) -> None:
    from qwen35_local import hub

    model = _core.Model(hub.embedded_model(), context_tokens=400)
    engine = Engine(model)
    messages = [SYSTEM]
    for n in range(12):
        messages += [Message("user", f"What is {n} + 30? " * 3), Message("assistant", str(n + 30))]
    messages.append(Message("user", "Thank you!"))
    request = Request(messages, GREEDY, thinking=False, max_tokens=20)
    with pytest.raises(InputError, match="context"):
        list(engine.reply(request))
    first, *_, done = engine.reply(replace(request, when_full="compact"))
    assert isinstance(first, Compacted)
    assert isinstance(done, Done)
    assert first.messages == tuple(messages[1 : 1 + len(first.messages)])
    assert first.messages[-1].role == "assistant"
    assert first.tokens_after <= 200
    shorter = [SYSTEM, *messages[1 + len(first.messages) :]]
    *_, cold_done = Engine(model).reply(replace(request, messages=shorter))
    assert isinstance(cold_done, Done)
    assert done.message == cold_done.message
    with pytest.raises(InputError, match="context"):
        list(engine.reply(Request([Message("user", "word " * 500)], GREEDY, when_full="compact")))
