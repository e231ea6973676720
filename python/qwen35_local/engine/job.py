"""A reply that was asked for: what it tells while it is written, and how it is ended from outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from qwen35_local.engine.reply import Event


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of the prompt has been read: `done` of `total` rows."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The job is over, and nothing more is told."""

    error: Exception


Told: TypeAlias = Event | Reading | Failed
Sink: TypeAlias = Callable[[Told], None]


class Job:
    """A reply, or several to one prompt. What it tells goes to `sink` on the engine's thread, which must not wait
    there: Reading, then events; the last is the Done of the last of its replies, or Failed.

    `user`: whose it is; between users the engine is fair. Both methods may be called from any thread, or from a signal
    handler, and do not wait."""

    def __init__(self, sink: Sink = lambda told: None, user: str = "") -> None:
        self.sink = sink
        self.user = user
        self.is_cancelled = False
        self.wants_answer = False

    def cancel(self) -> None:
        """Ends it within one pass of the model, with reason "cancelled"."""
        self.is_cancelled = True

    def answer_now(self) -> None:
        """Ends the thinking, if it is in progress; the answer follows."""
        self.wants_answer = True
