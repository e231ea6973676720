"""A job at work: its prompt is read on one sequence, and its replies are written on that one and on forks of it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from qwen35_local import _core
from qwen35_local.engine.cache import Logits
from qwen35_local.engine.cached_sequence import CachedSequence, Part, Start
from qwen35_local.engine.encoding import Encoded
from qwen35_local.engine.generation import Generation
from qwen35_local.engine.job import Job, Reading
from qwen35_local.engine.line import Line
from qwen35_local.engine.model_input import ModelInput
from qwen35_local.engine.prompt_scoring import PromptScoring
from qwen35_local.engine.reply import Done, Event, Reuse

SIDE_BY_SIDE = 8
"""Replies to one prompt, at most; of more, the next one begins when one ends."""


class Task:
    """It waits without a sequence, then `slot` holds its prompt; none of its replies depends on the others, nor on
    whatever else shares a pass with it."""

    def __init__(
        self,
        job: Job,
        encoded: Encoded,
        generations: Sequence[Generation],
        logprobs: int | None = None,
        keep: Callable[[Done], None] | None = None,
        scoring: PromptScoring | None = None,
    ) -> None:
        """`keep` is told of each reply when it ends. Without generations the prompt is read, and that is all; with
        `scoring` all of it is, whatever was read before, and its tokens are told of first."""
        self.job = job
        self.encoded = encoded
        self.goal = encoded.model_input
        """What has to be read before tokens can be drawn: the prompt; of a task that was interrupted, more."""
        self.slot: CachedSequence | None = None
        self.start: Start | None = None
        """Where the reading of the prompt began."""
        self.reuse: Reuse | None = None
        """What the prompt cost, once it was read."""
        self.lent_bytes = 0
        self.is_settled = True
        """Whether nothing more will be told; until the scheduler has it, nothing is."""
        self.began = time.monotonic()
        self._first = generations[0] if generations else None
        self._waiting = deque(generations)
        self._lines: list[Line] = []
        self._logprobs = logprobs
        self._keep = keep
        self.scoring = scoring
        self._logits: Logits | None = None
        self._fork: _core.Snapshot | None = None
        self._width = 1

    @classmethod
    def of_reading(cls, encoded: Encoded) -> "Task":
        """One that only reads."""
        return cls(Job(), encoded, ())

    @property
    def is_over(self) -> bool:
        return not self._waiting and not self._lines

    @property
    def is_reading(self) -> bool:
        return self.slot is not None and not self.slot.is_there

    @property
    def n_rows(self) -> int:
        """Rows of context that its sequences hold, those of the prompt once."""
        if self.slot is None:
            return 0
        shared = len(self.encoded.tokens)
        return len(self.slot) + sum(len(line.sequence) - shared for line in self._lines[1:])

    @property
    def can_be_interrupted(self) -> bool:
        return self._fork is None

    def interrupt(self) -> None:
        """Lets go of its sequence; it is read again later, and goes on with the same bits."""
        if self._lines:
            (line,) = self._lines
            written = line.generation.reply.written
            evaluated = written[: len(written) - len(line.generation.pending)]
            prompt = self.encoded.model_input
            self.goal = ModelInput(np.concatenate([prompt.tokens, np.array(evaluated, np.int32)]), prompt.inputs)
        self.slot = None

    def open(self, slot: CachedSequence) -> None:
        """Its prompt is read on `slot` from now on."""
        self.slot = slot
        if self.scoring is None:
            start = slot.seek(self.goal, wants_logits=self.wants_logits)
            slot.aim(self.goal, self.encoded.checkpoints, wants_logits=self.wants_logits)
        else:
            start = slot.seek_start()
            slot.aim(self.goal, {}, score=self.scoring.begin())
        self.start = self.start or start

    def tell_reading(self) -> None:
        assert self.slot is not None
        self.job.sink(Reading(min(len(self.slot), len(self.encoded.tokens)), len(self.encoded.tokens)))

    def tell(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Done) and self._keep is not None:
                self._keep(event)
            self.job.sink(event)

    @property
    def wants_logits(self) -> bool:
        """Whether those that follow the goal are drawn from: no token of a reply has been."""
        return not self._lines

    def begin_writing(self, state_budget: int) -> None:
        """The goal is read. Replies are written side by side, of several as many as half of `state_budget` bytes has
        states for; `lent_bytes` is what these take."""
        assert self.slot is not None
        if self._lines:
            self._lines = [Line(self._lines[0].generation, self.slot.sequence)]
            return
        self._logits = self.slot.taken_logits()
        self._end_scoring()
        if len(self._waiting) > 1:
            self._fork = self.slot.sequence.snapshot()
            room = state_budget // 2 // max(self._fork.n_bytes, 1)
            self._width = max(1, min(SIDE_BY_SIDE, room, len(self._waiting)))
            self.lent_bytes = self._width * self._fork.n_bytes

    def _end_scoring(self) -> None:
        scoring, self.scoring = self.scoring, None  # when it is interrupted it goes on behind what was told
        if scoring is None:
            return
        for generation in self._waiting:
            self.tell([generation.reply.scored(scoring.scores)])
        while self._waiting and scoring.is_all:
            generation = self._waiting.popleft()
            generation.reason = "length"
            self._end(generation)

    def begin_replies(self, model: _core.Model) -> None:
        """The first tokens of replies that there is room for now."""
        while self._waiting and len(self._lines) < self._width:
            assert self._logits is not None
            generation = self._waiting.popleft()
            line = Line(generation, self._sequence(model, generation))
            self._lines.append(line)
            _, told = generation.take([generation.sampler.next(self._logits, logprobs=self._logprobs)])
            self._took(line, told)
            self._drop_ended()

    @property
    def lines(self) -> Sequence[Line]:
        """What is being written."""
        return self._lines

    def parts(self) -> list[Part]:
        """One more token of each reply, those that were decided without the model, and drafts."""
        return [line.part(self._logprobs) for line in self._lines]

    def took(self, results: Sequence[_core.StepResult]) -> None:
        """The end of a pass with `parts`. Raises what ended any of them."""
        for result in results:
            if result.error is not None:
                raise result.error
        assert self.slot is not None
        self.slot.end_pass()
        for line, result in zip(self._lines, results, strict=True):
            self._took(line, line.took(result))
        self._drop_ended()

    def cancel(self) -> None:
        """Ends every reply that has not ended."""
        for generation in [*(line.generation for line in self._lines), *self._waiting]:
            if generation.reason is None:
                generation.reason = "cancelled"
                self._end(generation)
        self._lines, self._waiting = [], deque()

    def _sequence(self, model: _core.Model, generation: Generation) -> _core.Sequence:
        assert self.slot is not None
        if self._fork is None or generation is self._first:
            return self.slot.sequence
        fork = _core.Sequence(model, kv=self._fork.kv)
        fork.restore(self._fork)
        return fork

    def _took(self, line: Line, told: Iterable[Event]) -> None:
        generation = line.generation
        self.tell(told)
        if generation.reason is None and len(line.sequence) + len(generation.pending) >= line.sequence.context_tokens:
            generation.reason = "context"
        if generation.reason is not None:
            self._end(generation)

    def _drop_ended(self) -> None:
        self._lines = [line for line in self._lines if line.generation.reason is None]

    def _end(self, generation: Generation) -> None:
        self.tell(generation.finish())
        reuse = self.reuse or Reuse()
        if generation is not self._first:
            reuse = Reuse(reuse.reused_tokens + reuse.evaluated_tokens, "the prompt of the first reply")
        self.tell([generation.reply.done(generation.reason or "cancelled", len(self.encoded.tokens), reuse)])
