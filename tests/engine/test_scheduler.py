"""Many conversations at once: each answer is the one it would be alone, and what they share is read once."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from asking import SYSTEM, WAIT_S, Client, alone, never_ends, request

from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine import prompt_rows
from qwen35_local.engine.cache import PrefixCache
from qwen35_local.engine.cached_sequence import Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Job, Reading, Told
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.reply import Done, Request
from qwen35_local.engine.task import Task
from qwen35_local.errors import Busy, InputError, OutOfMemory

QUESTIONS = (
    "What is 12 + 30?",
    "What time is it?",
    "Tell me a short story.",
    "Hello!",
    "What is the capital of Italy?",
)


@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_each_answer_is_that_of_a_lone_run(demo: _core.Model, kv: str) -> None:
    widths: list[int] = []

    def counted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        widths.append(len(parts))
        return evaluate(model, parts)

    engine = Engine(demo, kv=kv, limits=Limits(parallel=4), evaluate=counted)  # type: ignore[arg-type]
    asked = [request(QUESTIONS[n % 5] * (1 + n % 3), n) for n in range(12)]
    clients = [Client() for _ in asked]
    for client, each in zip(clients, asked, strict=True):
        client.ask(engine, each)
    for client, each in zip(clients, asked, strict=True):
        expected = alone(demo, each, kv)
        assert client.done.message == expected.message
        assert client.done.reason == expected.reason
        assert client.done.usage.prompt_tokens == expected.usage.prompt_tokens
    assert max(widths) == 4
    assert engine.running == [] and engine.n_waiting == 0


def test_prompts_that_arrive_together_read_what_they_share_once(demo: _core.Model) -> None:
    read: list[int] = []

    def counted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        read.extend(len(part.rows) for part in parts if part.sampler is None)
        return evaluate(model, parts)

    engine = Engine(demo, limits=Limits(parallel=4), evaluate=counted)
    asked = [request("Consider this. " * 30 + question, seed=2) for question in QUESTIONS[:4]]
    clients = [Client() for _ in asked]
    for client, each in zip(clients, asked, strict=True):
        client.ask(engine, each)
    lengths = [client.done.usage.prompt_tokens for client in clients]
    evaluated = [client.done.usage.evaluated_tokens for client in clients]
    assert sum(read) == sum(evaluated)
    assert sum(evaluated) < lengths[0] + 4 * 40, "what they share was read more than once"
    for client, each in zip(clients, asked, strict=True):
        assert client.done.message == alone(demo, each).message


def test_the_same_prompt_at_once_is_read_once(demo: _core.Model) -> None:
    engine = Engine(demo, limits=Limits(parallel=4))
    clients = [Client() for _ in range(4)]
    for n, client in enumerate(clients):
        client.ask(engine, request("What is 12 + 30?", seed=2 * n))
    evaluated = [client.done.usage.evaluated_tokens for client in clients]
    assert sorted(evaluated)[:3] == [0, 0, 0] and max(evaluated) == clients[0].done.usage.prompt_tokens


def test_a_conversation_goes_on_from_what_was_read_whoever_spoke_between(demo: _core.Model) -> None:
    engine = Engine(demo, limits=Limits(parallel=2))
    talks = [[SYSTEM, Message("user", f"{question} My number is {n}.")] for n, question in enumerate(QUESTIONS)]
    for turn in range(3):
        clients = [Client() for _ in talks]
        for client, talk in zip(clients, talks, strict=True):
            client.ask(engine, Request(talk, Sampling(temperature=0.0), thinking=False, max_tokens=16))
        for client, talk in zip(clients, talks, strict=True):
            said = engine.tokenizer.encode(talk[-1].text)
            if turn:
                assert client.done.usage.evaluated_tokens <= len(said) + 40
            talk += [client.done.message, Message("user", "And then? " * 3)]


def test_cancelling_one_leaves_the_others(demo: _core.Model) -> None:
    engine = Engine(demo, limits=Limits(parallel=3))
    asked = [request(QUESTIONS[n], 2 * n, max_tokens=60) for n in range(3)]
    clients = [Client() for _ in asked]
    jobs = [client.ask(engine, each) for client, each in zip(clients, asked, strict=True)]
    jobs[1].cancel()
    assert clients[1].done.reason == "cancelled"
    for n in (0, 2):
        assert clients[n].done.message == alone(demo, asked[n]).message


def test_what_waits_is_cancelled_without_being_read(demo: _core.Model) -> None:
    engine = Engine(demo, limits=Limits(parallel=1))
    first, second = Client(), Client()
    endless = replace(request("Tell me a short story.", max_tokens=400), sampling=never_ends(engine))
    running = first.ask(engine, endless)
    second.ask(engine, request("Hello!")).cancel()
    assert second.done.reason == "cancelled"
    assert second.done.usage.evaluated_tokens == 0
    running.cancel()
    assert first.done.reason == "cancelled"


def test_a_full_queue_says_when_to_come_again(demo: _core.Model) -> None:
    engine = Engine(demo, limits=Limits(parallel=1, queue=1))
    endless = replace(request("Tell me a short story.", max_tokens=400), sampling=never_ends(engine))
    clients = [Client(), Client()]
    jobs = [client.ask(engine, endless) for client in clients]
    with pytest.raises(Busy, match="2 replies are written or wait") as refused:
        Client().ask(engine, request("Hello!"))
    assert 1 <= refused.value.retry_after <= 60
    for job in jobs:
        job.cancel()
    assert [client.done.reason for client in clients] == ["cancelled"] * 2
    last = Client()
    last.ask(engine, request("Hello!"))
    assert last.done.reason in ("stop", "length")


def test_users_take_turns(demo: _core.Model) -> None:
    """Who asks for much does not hold up who asks for little."""
    order: list[str] = []
    lock = threading.Lock()

    class Named(Client):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def __call__(self, told: Told) -> None:
            if isinstance(told, Reading) and len(self.told) == 0:
                with lock:
                    order.append(self.name)
            super().__call__(told)

    engine = Engine(demo, limits=Limits(parallel=2))
    clients = []

    def ask_all() -> None:
        for name in ("much",) * 4 + ("little",):
            clients.append(Named(name))
            clients[-1].ask(engine, request(f"Hello! {len(clients)}", system=None), user=name)

    engine._scheduler.at_rest(ask_all)
    for client in clients:
        assert client.done.reason in ("stop", "length")
    assert order.index("little") == 1


def test_an_error_of_one_is_its_own(demo: _core.Model) -> None:
    engine = Engine(demo, limits=Limits(parallel=2))
    good, bad = Client(), Client()
    asked = request("What is 12 + 30?")
    good.ask(engine, asked)
    nothing_left = dict.fromkeys(range(engine.tokenizer.n_used), float("-inf"))
    bad.ask(engine, replace(request("Hello!"), sampling=Sampling(logit_bias=nothing_left)))
    assert isinstance(bad.error, InputError)
    assert good.done.message == alone(demo, asked).message


def test_contexts_beyond_the_memory_wait_and_keep_their_bits(demo: _core.Model) -> None:
    """Keys and values for less than two of them: the one that came last is put off, and loses nothing."""
    engine = Engine(demo, limits=Limits(parallel=3, kv_tokens=700))
    asked = [request(QUESTIONS[n] * 10, 2 * n, max_tokens=150) for n in range(4)]
    asked = [replace(each, sampling=replace(never_ends(engine), seed=n)) for n, each in enumerate(asked)]
    clients = [Client() for _ in asked]
    for client, each in zip(clients, asked, strict=True):
        client.ask(engine, each)
    for client, each in zip(clients, asked, strict=True):
        assert client.done.message == alone(demo, each).message


def test_what_finds_no_memory_goes_on_when_there_is_some(demo: _core.Model) -> None:
    fails = [3]

    def short_of_memory(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        results = evaluate(model, parts)
        if len(parts) > 1 and fails[0]:
            fails[0] -= 1
            return [*results[:-1], _Failed(OutOfMemory("none left"))]  # type: ignore[list-item]
        return results

    engine = Engine(demo, limits=Limits(parallel=2), evaluate=short_of_memory)
    asked = [request(QUESTIONS[n], 2 * n, max_tokens=40) for n in range(3)]
    clients = [Client() for _ in asked]
    for client, each in zip(clients, asked, strict=True):
        client.ask(engine, each)
    for client, each in zip(clients, asked, strict=True):
        assert client.done.message == alone(demo, each).message
    assert fails[0] < 3


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error


def test_threads_share_passes(demo: _core.Model) -> None:
    """Also without a thread of the engine's own: whoever waits drives all."""
    widths: list[int] = []

    def counted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        widths.append(len(parts))
        return evaluate(model, parts)

    engine = Engine(demo, limits=Limits(parallel=4), evaluate=counted)
    endless = never_ends(engine)
    asked = [
        replace(request(QUESTIONS[n], n, max_tokens=60), sampling=replace(endless, seed=n), thinking=False)
        for n in range(5)
    ]
    found: dict[int, Done] = {}
    together = threading.Barrier(5)

    def read(n: int) -> None:
        together.wait(WAIT_S)
        *_, done = engine.reply(asked[n])
        assert isinstance(done, Done)
        found[n] = done

    threads = [threading.Thread(target=read, args=(n,), daemon=True) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    for n, each in enumerate(asked):
        assert found[n].message == alone(demo, each).message
    assert max(widths) > 1


def test_streams_of_one_thread_are_read_in_turns(demo: _core.Model) -> None:
    for parallel in (1, 2):
        engine = Engine(demo, limits=Limits(parallel=parallel))
        asked = [request(QUESTIONS[n], n) for n in range(2)]
        one, other = (engine.reply(each) for each in asked)
        next(one)
        *_, other_done = other
        *_, one_done = one
        assert isinstance(one_done, Done) and isinstance(other_done, Done)
        assert [one_done.message, other_done.message] == [alone(demo, each).message for each in asked]


def test_a_reply_that_is_dropped_within_a_step_holds_nobody_up(demo: _core.Model) -> None:
    """The end of an object can come at any time, in the midst of a pass too."""
    dropped: list[object] = []

    def dropping(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        dropped.clear()
        gc.collect()
        return evaluate(model, parts)

    engine = Engine(demo, limits=Limits(parallel=2), evaluate=dropping)
    unread = engine.reply(request("Tell me a short story."))
    next(unread)
    dropped.append(unread)
    del unread
    asked = request("Hello!", 1)
    *_, done = engine.reply(asked)
    assert isinstance(done, Done) and done.message == alone(demo, asked).message
    engine.close()
    assert engine.running == []


def test_the_thread_ends_when_nothing_is_left_to_do(demo: _core.Model) -> None:
    engine = Engine(demo)
    for _ in range(2):
        client = Client()
        client.ask(engine, request("Hello!"))
        assert client.done.message.text
        until = time.monotonic() + WAIT_S
        while engine._thread is not None and time.monotonic() < until:
            time.sleep(0.001)
        assert engine._thread is None


def test_a_program_that_ends_does_not_wait_for_its_replies() -> None:
    """Nor does it end in the midst of a pass."""
    program = (
        "from qwen35_local import _core, hub\n"
        "from qwen35_local.engine.engine import Engine\n"
        "from qwen35_local.engine.reply import Completion\n"
        "from qwen35_local.chat.presets import Sampling\n"
        "engine = Engine(_core.Model(hub.embedded_model(), threads=1))\n"
        "ends = dict.fromkeys((n for n in engine.tokenizer.end_ids if n < engine.tokenizer.n_used), -100.0)\n"
        "endless = Completion([300], Sampling(temperature=0.0, logit_bias=ends), max_tokens=1_000_000)\n"
        "engine.submit(endless, lambda told: None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture(demo: _core.Model, seed: int) -> None:
    """Arrivals, lengths, formats of choice and cancellations at random; what is not cancelled is as it would be."""
    random = Random(seed)
    engine = Engine(demo, limits=Limits(parallel=random.choice([2, 3, 5]), kv_tokens=random.choice([None, 1500])))
    live: list[tuple[Request, Client, Job]] = []
    for n in range(14):
        asked = request(random.choice(QUESTIONS) * random.randint(1, 12), n, max_tokens=random.randint(1, 40))
        asked = replace(asked, n=random.choice([1, 1, 1, 3]))
        client = Client()
        live.append((asked, client, client.ask(engine, asked, user=random.choice("ab"))))
        if random.random() < 0.3:
            random.choice(live)[2].cancel()
        time.sleep(random.random() * 0.05)
    for asked, client, _ in live:
        assert client.is_over.wait(WAIT_S)
        ends = [told for told in client.told if isinstance(told, Done)]
        assert len(ends) == asked.n
        for done in ends:
            if done.reason != "cancelled":
                one = replace(asked, n=1, sampling=asked.sampling.of_choice(done.choice))
                assert done.message == alone(demo, one).message
    assert engine.running == [] and engine.n_waiting == 0


def test_one_that_comes_while_a_step_looks_at_those_that_wait(
    demo: _core.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that runs is disturbed."""
    engine = Engine(demo, limits=Limits(parallel=2))
    late = Client()
    waits = prompt_rows.waits_for_another

    def while_one_comes(task: Task, running: list[Task], cache: PrefixCache) -> bool:
        if engine._scheduler.running:
            monkeypatch.undo()
            coming = threading.Thread(target=late.ask, args=(engine, request("Hello!")))
            coming.start()
            coming.join()
        return waits(task, running, cache)

    monkeypatch.setattr(prompt_rows, "waits_for_another", while_one_comes)
    asked = [request(text) for text in QUESTIONS[:3]]
    clients = [Client() for _ in asked]

    def ask_all() -> None:
        for client, each in zip(clients, asked, strict=True):
            client.ask(engine, each)

    engine._scheduler.at_rest(ask_all)
    assert [client.done.message for client in clients] == [alone(demo, each).message for each in asked]
    assert late.done.reason in ("stop", "length")
