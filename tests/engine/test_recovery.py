"""An engine whose device fails: the reply is lost, and the next one comes from a model that was loaded again."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from qwen35_local import _core, hub
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.cached_sequence import Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Failed, Told
from qwen35_local.engine.live import Loaded
from qwen35_local.engine.reply import Done, Request
from qwen35_local.errors import DeviceError, Unavailable

FIRST, SECOND = Message("user", "Hi"), Message("user", "What is the capital of France?")


class Faults:
    """Engines on models that fail when they are told to."""

    def __init__(self) -> None:
        self.are_due = False
        self.answers: Iterator[Exception | None] = iter(())  # of what loads again: an error or a model
        self.loads = 0

    def engine(self) -> Engine:
        return Engine(_core.Model(hub.embedded_model(), threads=1), evaluate=self.evaluate, reload=self.reload)

    def reload(self) -> Loaded:
        self.loads += 1
        error = next(self.answers, None)
        if error is not None:
            raise error
        self.are_due = False
        return Loaded(_core.Model(hub.embedded_model(), threads=1), None, "again", "another device")

    def evaluate(self, model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        if self.are_due:
            raise DeviceError("lost")
        return evaluate(model, parts)


def request(*messages: Message) -> Request:
    return Request(messages, Sampling(temperature=0.0), thinking=False, max_tokens=8)


def reply(engine: Engine, *messages: Message) -> Done:
    *_, done = engine.reply(request(*messages))
    assert isinstance(done, Done)
    return done


def test_the_next_reply_is_as_if_nothing_had_happened() -> None:
    faults, sound = Faults(), Engine(_core.Model(hub.embedded_model(), threads=1))
    engine = faults.engine()
    first = reply(engine, FIRST).message
    faults.are_due = True
    with pytest.raises(DeviceError, match="lost"):
        reply(engine, FIRST, first, SECOND)
    assert engine.has_failed
    again = reply(engine, FIRST, first, SECOND)
    assert reply(sound, FIRST).message == first
    assert again.message == reply(sound, FIRST, first, SECOND).message
    assert again.usage.reused_tokens == 0  # nothing that the device held is trusted
    assert (engine.has_failed, engine.identity, faults.loads) == (False, "again", 1)
    assert "(another device)" in engine.summary


def test_a_failure_while_nobody_waits_is_met_before_the_next_reply() -> None:
    faults = Faults()
    engine = faults.engine()
    first = reply(engine, FIRST).message
    faults.are_due = True
    engine.prefill_ahead(request(FIRST), Message("assistant", first.text + " And more."))
    with pytest.raises(DeviceError):
        engine.finish_idle()
    assert engine.has_failed
    assert reply(engine, FIRST, first, SECOND).message.text
    assert faults.loads == 1 and not engine.has_failed


def test_a_model_that_cannot_be_loaded_is_tried_again() -> None:
    faults = Faults()
    engine = faults.engine()
    faults.are_due = True
    with pytest.raises(DeviceError, match="lost"):
        reply(engine, FIRST)
    faults.answers = iter([Unavailable("no device"), Unavailable("no device"), None])
    for _ in range(2):
        with pytest.raises(Unavailable):
            reply(engine, FIRST)
        with pytest.raises(DeviceError, match="could not be loaded again"):
            _ = engine.summary
        engine.cancel()
        engine.close()
        assert engine.has_failed
    assert reply(engine, FIRST).message.text
    assert faults.loads == 3


def test_without_a_way_to_load_again_the_error_stays() -> None:
    faults = Faults()
    engine = Engine(_core.Model(hub.embedded_model(), threads=1), evaluate=faults.evaluate)
    faults.are_due = True
    for _ in range(2):
        with pytest.raises(DeviceError, match="lost"):
            reply(engine, FIRST)


def test_of_several_those_at_work_are_lost_and_those_that_wait_are_answered() -> None:
    faults, sound = Faults(), Engine(_core.Model(hub.embedded_model(), threads=1))
    engine = faults.engine()
    told: list[list[Told]] = [[], [], []]
    over = [threading.Event() for _ in told]

    def sink(n: int) -> Callable[[Told], None]:
        def put(one: Told) -> None:
            told[n].append(one)
            if isinstance(one, Done | Failed):
                over[n].set()

        return put

    def ask() -> None:
        for n in range(3):
            engine.submit(request(FIRST), sink(n))
        faults.are_due = True

    engine._scheduler.at_rest(ask)
    assert all(event.wait(60) for event in over)
    lost, *answered = (one[-1] for one in told)
    assert isinstance(lost, Failed) and isinstance(lost.error, DeviceError)
    for done in answered:
        assert isinstance(done, Done) and done.message == reply(sound, FIRST).message
    assert faults.loads == 1


def test_those_that_wait_for_a_model_that_cannot_be_loaded_are_told() -> None:
    faults = Faults()
    faults.answers = iter([Unavailable("no device")])
    engine = faults.engine()
    over = [threading.Event() for _ in range(2)]
    told: list[Told] = []

    def sink(one: Told) -> None:
        if isinstance(one, Failed):
            told.append(one)
            over[len(told) - 1].set()

    def ask() -> None:
        for _ in over:
            engine.submit(request(FIRST), sink)
        faults.are_due = True

    engine._scheduler.at_rest(ask)
    assert all(event.wait(60) for event in over)
    lost, waited = (one.error for one in told if isinstance(one, Failed))
    assert isinstance(lost, DeviceError) and str(lost) == "lost"
    assert isinstance(waited, DeviceError) and str(waited) == "the model could not be loaded again: no device"
