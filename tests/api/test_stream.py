"""What ends a reply, over an engine that only says what it is told to."""

import gc
import threading
import weakref
from collections.abc import Callable, Generator, Iterator

import pytest

from qwen35_local.api.stream import Stream
from qwen35_local.chat.events import TextDelta
from qwen35_local.chat.messages import Message
from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Done, Event, Usage
from qwen35_local.errors import InputError

WAIT_S = 20.0  # far beyond what any step here takes; only a fault lasts as long


class Engine:
    """Says `words`, one after another, until it is cancelled; `begin` is called before the first."""

    def __init__(self, words: int = 3, begin: Callable[[], None] = lambda: None) -> None:
        self.words = words
        self.begin = begin
        self.active = 0
        self.began = 0

    def stream(self) -> Stream:
        return Stream(self._reply)

    def _reply(self, job: Job) -> Generator[Event, None, None]:
        self.active += 1
        self.began += 1
        try:
            self.begin()
            said = ""
            for n in range(self.words):
                if job.is_cancelled:
                    break
                said += f"{n} "
                yield TextDelta(f"{n} ")
            yield Done("cancelled" if job.is_cancelled else "stop", Message("assistant", said), Usage())
        finally:
            self.active -= 1


def in_thread(job: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(WAIT_S)
    return not thread.is_alive()


def test_a_stream_gives_its_pieces_and_then_the_whole() -> None:
    stream = Engine().stream()
    assert list(stream) == [TextDelta("0 "), TextDelta("1 "), TextDelta("2 ")]
    assert list(stream) == []
    reply = stream.result()
    assert (str(reply), reply.finish_reason) == ("0 1 2 ", "stop")


def test_the_result_reads_what_is_left() -> None:
    stream = Engine().stream()
    assert next(stream) == TextDelta("0 ")
    assert stream.result().text == "0 1 2 "


@pytest.mark.parametrize("end", [Stream.cancel, Stream.close])
def test_a_reply_that_is_ended_holds_what_was_written(end: Callable[[Stream], None]) -> None:
    engine = Engine(words=100)
    stream = engine.stream()
    next(stream)
    end(stream)
    reply = stream.result()
    assert (reply.text, reply.finish_reason) == ("0 ", "cancelled")
    assert engine.stream().result().finish_reason == "stop"


def test_a_reply_that_ended_is_not_cancelled_afterwards() -> None:
    engine = Engine()
    stream = engine.stream()
    assert stream.result().finish_reason == "stop"
    stream.cancel()
    assert stream.result().finish_reason == "stop"


def test_a_stream_that_is_cancelled_first_never_begins() -> None:
    engine = Engine()
    stream = engine.stream()
    stream.cancel()
    assert list(stream) == []
    assert stream.result().finish_reason == "cancelled"
    assert engine.began == 0


def test_a_stream_that_is_dropped_lets_go_of_the_model() -> None:
    engine = Engine()
    stream = engine.stream()
    next(stream)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    assert engine.active == 0
    assert engine.stream().result().text == "0 1 2 "


def test_a_failure_frees_the_model_and_is_the_result() -> None:
    engine = Engine()

    def fail() -> None:
        raise InputError("does not fit")

    engine.begin = fail
    stream = engine.stream()
    with pytest.raises(InputError, match="does not fit"):
        next(stream)
    with pytest.raises(InputError, match="does not fit"):
        stream.result()
    engine.begin = lambda: None
    assert engine.stream().result().finish_reason == "stop"


def test_close_from_another_thread_waits_for_the_step_in_progress() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def begin() -> None:
        entered.set()
        go_on.wait(WAIT_S)

    engine = Engine(words=100, begin=begin)
    stream = engine.stream()
    reasons: list[str] = []
    reader = in_thread(lambda: reasons.append(stream.result().finish_reason))
    assert entered.wait(WAIT_S)
    closer = in_thread(stream.close)
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    assert ended(closer) and ended(reader)
    assert reasons == ["cancelled"]
    assert engine.active == 0


def test_close_inside_a_step_of_the_same_thread_does_not_wait_for_itself() -> None:
    """As from a signal handler."""
    engine = Engine(words=100)
    stream = engine.stream()
    engine.begin = stream.close
    assert stream.result().finish_reason == "cancelled"


def test_the_context_of_a_stream_closes_it() -> None:
    engine = Engine(words=100)
    with engine.stream() as stream:
        next(stream)
    assert engine.active == 0
    pieces: Iterator[object] = iter(stream)
    assert list(pieces) == []
