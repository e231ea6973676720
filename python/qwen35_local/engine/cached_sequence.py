"""One live sequence, and the snapshots it can go back to: what lets a conversation be read once."""

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.engine.cache import NO_KEYS, Logits, PrefixCache, common_prefix, is_prefix
from qwen35_local.engine.model_input import Keys, ModelInput, Tokens, keys
from qwen35_local.errors import Cancelled, InputError

Prompt: TypeAlias = ModelInput | Tokens | Seq[int]

CHECKPOINT_TOKENS = 4096  # a long prefill leaves a snapshot every so many tokens
PARKED_TOKENS = 32
LIVE = "what was read last"


class Start(NamedTuple):
    """Where the evaluation of a prompt starts: its first `reused` rows were evaluated before, and `source` says which
    snapshot they come from. Known rows and the prompt part at `differs_at` (None: the prompt only goes on), where the
    keys `held` [0..8] were known and `wanted` [0..8] are asked for."""

    reused: int
    source: str
    differs_at: int | None = None
    held: Keys = NO_KEYS
    wanted: Keys = NO_KEYS


SCORED_ROWS = 32
"""Of a prompt whose every row of logits is wanted, in a pass: V floats each, in two places."""

Rows: TypeAlias = Literal["none", "last", "all"]


class Part(NamedTuple):
    """What a sequence takes part in a pass with: rows to evaluate at its end, of which of them the logits [V] that
    follow are wanted, and a sampler that draws what follows the last, and verifies the last `uncertain` of them."""

    sequence: _core.Sequence
    rows: ModelInput
    logits: Rows = "none"
    sampler: _core.Sampler | None = None
    logprobs: int | None = None
    uncertain: int = 0

    def item(self) -> _core.StepItem:
        return _core.StepItem(
            self.sequence,
            self.rows.tokens,
            inputs=self.rows.inputs,
            logits=self.logits,
            sampler=self.sampler,
            logprobs=self.logprobs,
            uncertain=self.uncertain,
        )


Score: TypeAlias = Callable[[int, NDArray[np.float32]], None]
"""Takes the place of a row of the prompt, and logits [n, V]: what follows that row and those behind it."""

Evaluate: TypeAlias = Callable[[_core.Model, Seq[Part]], list[_core.StepResult]]
"""Evaluates parts, each to its end, and says what became of each."""


def evaluate(model: _core.Model, parts: Seq[Part]) -> list[_core.StepResult]:
    """All in one pass. Raises what the device does; the sequences are torn then."""
    return model.step([part.item() for part in parts], rows=max(sum(len(part.rows) for part in parts), 1))


class CachedSequence:
    """Brings one sequence to any prompt, from the furthest point already read: what it holds itself, or the longest
    prefix in the cache."""

    def __init__(
        self,
        sequence: _core.Sequence,
        cache: PrefixCache | None = None,
        *,
        chunk_tokens: int | None = None,
        checkpoint_tokens: int = CHECKPOINT_TOKENS,
    ) -> None:
        """At most `chunk_tokens` of a prompt share a pass; None: the model's `pass_rows`."""
        self.cache = PrefixCache() if cache is None else cache
        self.chunk_tokens = chunk_tokens or sequence.pass_rows
        self.checkpoint_tokens = checkpoint_tokens
        self._sequence = sequence
        self.logits: Logits | None = None
        """What follows the last token, [V], where it was wanted."""
        self._is_whole = True  # False: a pass has begun, or failed midway
        self.left_at = 0.0
        """When its last conversation ended, by the monotonic clock; 0: it had none."""
        self._goal = ModelInput(np.empty(0, np.int32))
        self._wants_logits = False
        self._score: Score | None = None
        self._checkpoints: dict[int, str] = {}
        self._last_checkpoint = 0

    def __len__(self) -> int:
        return len(self._sequence)

    @property
    def sequence(self) -> _core.Sequence:
        """For `step`, and to fork: only this class changes it."""
        return self._sequence

    @property
    def keys(self) -> Keys:
        """Of the rows that the sequence holds."""
        return keys(self._sequence.tokens, self._sequence.inputs)

    def seek(self, prompt: Prompt, *, wants_logits: bool = True) -> Start:
        """Moves to the longest prefix of `prompt` [n] that was already evaluated, from where `read` can give the logits
        that follow, if they are wanted."""
        wanted = _input(prompt).keys
        held = self.keys if self._is_whole else NO_KEYS
        found, snapshot = self.cache.find(wanted, wants_logits=wants_logits), None
        while found.entry is not None and len(found.entry.keys) > self._usable(held, wanted, wants_logits):
            snapshot = self.cache.fetch(found.entry)
            if snapshot is not None:
                break
            found = self.cache.find(wanted, wants_logits=wants_logits)
        common = common_prefix(held, wanted)
        rest = held[common:]
        if found.common > common:
            common, rest = found.common, found.rest
        parts = (common, rest[:8], wanted[common : common + 8]) if len(rest) and common < len(wanted) else (None,)
        if found.entry is not None and snapshot is not None:
            self.logits, self._is_whole = None, False  # until all of it is there
            if self.cache.host_bytes is not None:
                self._sequence.truncate(0)
                self.cache.weigh(found.entry)
            self._sequence.restore(snapshot)
            self.logits, self._is_whole = found.entry.logits, True
            self.cache.touch(found.entry)
            return Start(len(found.entry.keys), found.entry.label, *parts)
        usable = self._usable(held, wanted, wants_logits)
        if not usable:
            self._let_go()
        return Start(usable, LIVE if usable else "", *parts)

    def seek_start(self) -> Start:
        """Moves to before the first row: every row of the prompt is evaluated now."""
        self.empty()
        return Start(0, "")

    def usable(self, prompt: ModelInput, wants_logits: bool) -> int:
        """How many rows of a prompt it holds itself and can go on from."""
        return self._usable(self.keys if self._is_whole else NO_KEYS, prompt.keys, wants_logits)

    def _usable(self, held: Keys, wanted: Keys, wants_logits: bool) -> int:
        """How many of the wanted rows the sequence itself can go on from."""
        can_go_on = len(held) < len(wanted) or not wants_logits or self.logits is not None
        return len(held) if can_go_on and is_prefix(held, wanted) else 0

    def aim(
        self, prompt: Prompt, checkpoints: Mapping[int, str], *, wants_logits: bool = True, score: Score | None = None
    ) -> None:
        """After `seek(prompt)`: parts that follow are of `prompt` [n], and leave a snapshot at each index of
        `checkpoints` they pass, under that label, and every `checkpoint_tokens`. `score` takes what follows every
        row."""
        self._goal, self._wants_logits, self._score = _input(prompt), wants_logits, score
        self._checkpoints = dict(checkpoints)
        self._last_checkpoint = len(self._sequence)

    @property
    def goal(self) -> ModelInput:
        return self._goal

    @property
    def is_there(self) -> bool:
        """Whether all of the prompt is evaluated."""
        return len(self._sequence) >= len(self._goal)

    def mark(self, position: int, label: str) -> None:
        """One more place of the prompt that leaves a snapshot."""
        self._checkpoints.setdefault(position, label)

    def next_part(self, most: int) -> Part:
        """What is to be evaluated next, of at most so many rows. `took` tells what became of it."""
        at = len(self._sequence)
        most = min(most, self.chunk_tokens, most if self._score is None else SCORED_ROWS)
        ends = [at + most, self._last_checkpoint + self.checkpoint_tokens, len(self._goal)]
        end = min(ends + [position for position in self._checkpoints if position > at])
        wants_last = self._wants_logits and end == len(self._goal)
        self.begin_pass()
        logits: Rows = "all" if self._score is not None else "last" if wants_last else "none"
        return Part(self._sequence, self._goal.part(at, end), logits)

    def begin_pass(self) -> None:
        """What follows the last token will be another; a pass that does not come back leaves the sequence torn."""
        self.logits, self._is_whole = None, False

    def end_pass(self) -> None:
        self._is_whole = True

    def took(self, result: _core.StepResult) -> None:
        """The end of a pass with `next_part`; then `leave_snapshot`. Raises what ended it."""
        if result.error is not None:
            self._is_whole = isinstance(result.error, Cancelled)  # only that leaves a sequence that can go on
            raise result.error
        self._is_whole = True
        if self._score is not None:
            self._score(len(self._sequence) - result.evaluated, result.logits)
        if self.is_there and self._wants_logits:
            self.logits = result.logits[-1] if self._score is None else result.logits[-1].copy()

    def leave_snapshot(self) -> None:
        """Before the next pass: of this place, if it is one that leaves one. It may take as long as a short pass."""
        at = len(self._sequence)
        if at in self._checkpoints or at == self._last_checkpoint + self.checkpoint_tokens:
            self.checkpoint(self._checkpoints.get(at) or f"{at:,} tokens into the prompt")
            self._last_checkpoint = at

    def taken_logits(self) -> Logits:
        """What follows the prompt, [V], once all of it is evaluated."""
        if self.logits is None:
            raise InputError("the sequence stood at the end of the prompt without logits; seek(prompt) before aim")
        return self.logits

    def interrupt(self) -> None:
        """Nothing more of the prompt is evaluated for now; a snapshot is left where that is."""
        if self._is_whole and len(self._sequence) > self._last_checkpoint:
            self.checkpoint(f"{len(self._sequence):,} tokens into the prompt, where it was interrupted")

    def leave(self) -> None:
        """Its conversation has ended for now."""
        self.left_at = time.monotonic()

    def park(self) -> None:
        """Leaves a snapshot of what it holds, unless reading that again takes next to nothing."""
        held = self.keys
        if self._is_whole and len(held):
            entry = self.cache.find(held, wants_logits=False).entry
            if len(held) - (0 if entry is None else len(entry.keys)) >= PARKED_TOKENS:
                self.checkpoint(LIVE)

    def empty(self) -> None:
        """Lets go of its keys and values; a snapshot of them goes to the cache."""
        self.park()
        self._let_go()

    def _let_go(self) -> None:
        self._sequence.truncate(0)
        self.logits, self._is_whole = None, True
        self.cache.weigh()

    def read(self, prompt: Prompt, checkpoints: Mapping[int, str]) -> Logits:
        """Evaluates what is missing of `prompt` [n] after `seek(prompt)`; returns the logits [V] that follow."""
        self.aim(prompt, checkpoints)
        while not self.is_there:
            part = self.next_part(self.chunk_tokens)
            self.took(self._sequence.step(part.rows.tokens, inputs=part.rows.inputs, logits=part.logits))
            self.leave_snapshot()
        return self.taken_logits()

    def checkpoint(self, label: str) -> None:
        """Keeps a snapshot of this point, unless there is one."""
        if not self.cache.holds(self.keys, with_logits=self.logits is not None):
            self.cache.insert(self._sequence.snapshot(), label, self.logits)

    def cancel(self) -> None:
        """Ends its part of the pass in progress; may be called from a signal handler or another thread."""
        self._sequence.cancel()


def _input(prompt: Prompt) -> ModelInput:
    return prompt if isinstance(prompt, ModelInput) else ModelInput(np.asarray(prompt, np.int32))
