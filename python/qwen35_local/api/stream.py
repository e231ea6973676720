"""A reply while it is written."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeAlias

from qwen35_local.api.reply import Reply
from qwen35_local.chat import events
from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Compacted, Done, Logprobs, PromptScores
from qwen35_local.engine.reply import Event as EngineEvent

Piece: TypeAlias = events.Event | Logprobs
Start: TypeAlias = Callable[[Job], Generator[EngineEvent, None, None]]


class Stream(Iterator[Piece]):
    """A reply while it is written, or several side by side: iterate for the pieces, `result()` for the whole.

    The pieces are `TextDelta` and `ReasoningDelta`, whose `text` is more of the answer and of the thinking,
    `ToolCallStart`, `ToolCallDelta` and `ToolCallDone`, and `Logprobs` if they were asked for; `choice` says of which
    reply, from 0 on, each of them is. The model starts with the first piece, as soon as it has a place for one more
    reply.

    Used as a context manager, or dropped, a stream lets go of the model. One thread iterates; `cancel` and `close` may
    be called from any other."""

    def __init__(self, start: Start, n: int = 1) -> None:
        """For `Model`, which makes streams. `start(job)` gives the engine's events of `n` replies, Done last."""
        self._job = Job()
        self._end = _End(n)
        self._events = _run(start, self._job, self._end)
        self._step = threading.RLock()
        self._is_stepping = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        """Raises InputError when the prompt does not fit the context."""
        with self._step:
            self._is_stepping = True
            try:
                return next(self._events)
            except StopIteration:
                raise
            except BaseException as failure:
                self._end.failure = failure
                raise
            finally:
                self._is_stepping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def result(self) -> Reply:
        """The whole reply, once what is left of it has been read. After `cancel` or `close` it is what was written
        until then, with `finish_reason` "cancelled". Raises what `next` raised."""
        for _ in self:
            pass
        if self._end.failure is not None:
            raise self._end.failure
        return self._end.reply

    def cancel(self) -> None:
        """Ends the reply within one pass of the model, with `finish_reason` "cancelled"; from any thread, or from a
        signal handler. Does not wait. Nothing happens to a reply that has ended, nor to others of the same model."""
        self._job.cancel()

    def answer_now(self) -> None:
        """Ends the thinking, if the reply is still at it; the answer follows. As `cancel` otherwise."""
        self._job.answer_now()

    def close(self) -> None:
        """Ends the reply as `cancel` does, and returns when the model is free for the next one."""
        self.cancel()
        with self._step:
            if not self._is_stepping:  # else a signal handler interrupted this very thread; it goes on to the end
                for _ in self._events:
                    pass


class _End:
    """How replies ended; apart from their stream, so that a stream that is dropped is let go of at once."""

    def __init__(self, n: int) -> None:
        self.replies = [Reply.cancelled()] * n
        self.failure: BaseException | None = None

    @property
    def reply(self) -> Reply:
        first, *others = self.replies
        return replace(first, others=tuple(others))


def _run(start: Start, job: Job, end: _End) -> Iterator[Piece]:
    if job.is_cancelled:
        return
    with closing(start(job)) as reply:
        for event in reply:
            if isinstance(event, Done):
                end.replies[event.choice] = Reply.of(event)
            elif not isinstance(event, Compacted | PromptScores):
                yield event
