"""Replies of one prompt, decoded side by side: a pass of the model is one more sampled token of each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from qwen35_local import _core
from qwen35_local.engine.cache import Logits
from qwen35_local.engine.cached_sequence import CachedSequence, Draw
from qwen35_local.engine.generation import Generation
from qwen35_local.engine.reply import Done, Event
from qwen35_local.errors import Cancelled

SIDE_BY_SIDE = 8
"""At most; of more replies, the next one begins when one ends."""


class _Line(NamedTuple):
    """A reply, and the sequence that it is written on."""

    generation: Generation
    sequence: _core.Sequence


class Decoding:
    """Of replies to the prompt that a sequence holds. The first one is written on that sequence, the others on forks of
    it; none depends on the others."""

    def __init__(
        self,
        model: _core.Model,
        cached: CachedSequence,
        generations: Iterable[Generation],
        logprobs: int | None,
        done: Callable[[Generation], Done],
    ) -> None:
        """`done` makes the last event of a reply, whose `reason` is set."""
        self._model = model
        self._cached = cached
        self._first, *others = generations
        self._waiting = deque([self._first, *others])
        self._prompt = cached.sequence.snapshot() if others else None
        self._state_bytes = 0 if self._prompt is None else self._prompt.n_bytes
        room = cached.cache.budget_bytes // 2 // max(self._state_bytes, 1)
        self._width = max(1, min(SIDE_BY_SIDE, room, 1 + len(others)))
        self._lines: list[_Line] = []
        self._logprobs = logprobs
        self._done = done

    def run(self, logits: Logits) -> Iterator[Event]:
        """Samples until something ends each reply; `logits` [V] follow the prompt. Their recurrent states take the
        place of snapshots meanwhile, at most half of it: memory stays within the plan."""
        with self._cached.cache.lent(self._width * self._state_bytes):
            yield from self._run(logits)

    def _run(self, logits: Logits) -> Iterator[Event]:
        try:
            yield from self._begin(logits)
            while self._lines:
                draws = [self._draw(line) for line in self._lines]
                for line, sampled in zip(self._lines, self._cached.step(self._model, draws), strict=True):
                    yield from self._take(line, sampled)
                self._lines = [line for line in self._lines if line.generation.reason is None]
                yield from self._begin(logits)
        except Cancelled:
            for generation in [*(line.generation for line in self._lines), *self._waiting]:
                if generation.reason is None:
                    generation.reason = "cancelled"
                    yield from self._end(generation)

    def _begin(self, logits: Logits) -> Iterator[Event]:
        """The first tokens of replies that there is room for now."""
        while self._waiting and len(self._lines) < self._width:
            self._cached.check_cancelled()
            generation = self._waiting.popleft()
            line = _Line(generation, self._sequence(generation))
            self._lines.append(line)
            yield from self._take(line, generation.sampler.next(logits, logprobs=self._logprobs))
            if generation.reason is not None:
                self._lines.pop()

    def _sequence(self, generation: Generation) -> _core.Sequence:
        if self._prompt is None or generation is self._first:
            return self._cached.sequence
        fork = _core.Sequence(self._model, kv=self._prompt.kv)
        fork.restore(self._prompt)
        return fork

    def _draw(self, line: _Line) -> Draw:
        return Draw(line.sequence, line.generation.pending, line.generation.sampler, self._logprobs)

    def _take(self, line: _Line, sampled: _core.Sampled) -> Iterator[Event]:
        generation = line.generation
        yield from generation.take(sampled)
        if generation.reason is None and len(line.sequence) + len(generation.pending) >= self._model.context_tokens:
            generation.reason = "context"
        if generation.reason is not None:
            yield from self._end(generation)

    def _end(self, generation: Generation) -> Iterator[Event]:
        yield from generation.finish()
        yield self._done(generation)
