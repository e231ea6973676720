"""One live sequence, and the snapshots it can go back to: what lets a conversation be read once."""

import threading
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import numpy as np

from qwen35_local import _core
from qwen35_local.engine.cache import NO_KEYS, Logits, PrefixCache, common_prefix, is_prefix
from qwen35_local.engine.model_input import Keys, ModelInput, Tokens, keys
from qwen35_local.errors import Cancelled, InputError
from qwen35_local.progress import Progress

Prompt: TypeAlias = ModelInput | Tokens | Seq[int]
Append: TypeAlias = Callable[[_core.Sequence, ModelInput, bool], Logits | None]

CHECKPOINT_TOKENS = 4096  # a long prefill leaves a snapshot every so many tokens
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


class Draw(NamedTuple):
    """Tokens [n] to evaluate at the end of a sequence, and the sampler that draws what follows them."""

    sequence: _core.Sequence
    tokens: Seq[int]
    sampler: _core.Sampler
    logprobs: int | None = None

    def item(self) -> _core.StepItem:
        return _core.StepItem(self.sequence, self.tokens, sampler=self.sampler, logprobs=self.logprobs)


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
        append: Append | None = None,
    ) -> None:
        """`chunk_tokens` share a pass; None: the model's `pass_rows`. `append(sequence, rows, wants_logits)` evaluates
        one chunk and returns the logits [V] that follow it, if they are wanted; None: the sequence's own."""
        self.cache = PrefixCache() if cache is None else cache
        self.chunk_tokens = chunk_tokens or sequence.pass_rows
        self.checkpoint_tokens = checkpoint_tokens
        self._sequence = sequence
        self._append = append or append_alone
        self.logits: Logits | None = None
        """What follows the last token, [V], where it was wanted."""
        self._is_whole = True  # False: a call failed midway
        self._stop = threading.Event()

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
            self._sequence.restore(snapshot)
            self.logits, self._is_whole = found.entry.logits, True
            self.cache.touch(found.entry)
            return Start(len(found.entry.keys), found.entry.label, *parts)
        usable = self._usable(held, wanted, wants_logits)
        if not usable:
            self._sequence.truncate(0)
            self.logits, self._is_whole = None, True
        return Start(usable, LIVE if usable else "", *parts)

    def _usable(self, held: Keys, wanted: Keys, wants_logits: bool) -> int:
        """How many of the wanted rows the sequence itself can go on from."""
        can_go_on = len(held) < len(wanted) or not wants_logits or self.logits is not None
        return len(held) if can_go_on and is_prefix(held, wanted) else 0

    def read(
        self, prompt: Prompt, checkpoints: Mapping[int, str], progress: Progress = lambda done, total: None
    ) -> Logits:
        """Evaluates what is missing of `prompt` [n] after `seek(prompt)`, leaving a snapshot at each index of
        `checkpoints` it passes, under that label, and every `checkpoint_tokens`; returns the logits [V] that follow.

        Raises InputError when it does not fit the context, Cancelled after `cancel()`; the sequence then
        holds a prefix of `prompt`, with a snapshot at its end."""
        self._read_rest(_input(prompt), checkpoints, progress, wants_logits=True)
        if self.logits is None:
            raise InputError("the sequence stood at the end of the prompt without logits; seek(prompt) before read")
        return self.logits

    def read_ahead(self, prompt: Prompt, checkpoints: Mapping[int, str]) -> None:
        """As `read`, after `seek(prompt, wants_logits=False)`; nobody wants the logits yet."""
        self._read_rest(_input(prompt), checkpoints, lambda done, total: None, wants_logits=False)

    def _read_rest(
        self, wanted: ModelInput, checkpoints: Mapping[int, str], progress: Progress, *, wants_logits: bool
    ) -> None:
        at = last_checkpoint = len(self._sequence)
        progress(at, len(wanted))
        try:
            while at < len(wanted):
                self.check_cancelled()
                ends = [at + self.chunk_tokens, last_checkpoint + self.checkpoint_tokens, len(wanted)]
                end = min(ends + [position for position in checkpoints if position > at])
                self._read_chunk(wanted.part(at, end), wants_logits and end == len(wanted))
                at = end
                progress(at, len(wanted))
                if at in checkpoints or at == last_checkpoint + self.checkpoint_tokens:
                    self.checkpoint(checkpoints.get(at) or f"{at:,} tokens into the prompt")
                    last_checkpoint = at
        except Cancelled:
            if len(self._sequence) > last_checkpoint:
                self.checkpoint(f"{len(self._sequence):,} tokens into the prompt, where it was interrupted")
            raise

    def step(self, model: _core.Model, draws: Seq[Draw]) -> list[_core.Sampled]:
        """Evaluates the next tokens of this sequence, of others beside it, or of both, in one pass where they fit into
        one; returns what their samplers draw. Raises Cancelled, and what ended any of them."""
        self.check_cancelled()
        self.logits = None
        sampled: dict[int, _core.Sampled] = {}
        rest = dict(enumerate(draws))
        with self._torn_by_failure():
            while rest:
                results = model.step([draw.item() for draw in rest.values()])
                for (i, draw), result in zip(list(rest.items()), results, strict=True):
                    if result.error is not None:
                        raise result.error
                    if result.sampled is None:
                        rest[i] = draw._replace(tokens=draw.tokens[result.evaluated :])
                    else:
                        sampled[i] = result.sampled
                        del rest[i]
        return [sampled[i] for i in range(len(draws))]

    def checkpoint(self, label: str) -> None:
        """Keeps a snapshot of this point, unless there is one."""
        if not self.cache.holds(self.keys, with_logits=self.logits is not None):
            self.cache.insert(self._sequence.snapshot(), label, self.logits)

    def cancel(self) -> None:
        """Stops what is being read, and whatever would be read before `resume()`; may be called from a signal handler
        or another thread."""
        self._stop.set()
        self._sequence.cancel()

    def resume(self) -> None:
        """Takes a `cancel()` back."""
        self._stop.clear()

    def check_cancelled(self) -> None:
        if self._stop.is_set():
            raise Cancelled(f"cancelled; the sequence stands at token {len(self._sequence)}")

    def _read_chunk(self, rows: ModelInput, wants_logits: bool) -> None:
        self.logits = None
        with self._torn_by_failure():
            self.logits = self._append(self._sequence, rows, wants_logits)

    @contextmanager
    def _torn_by_failure(self) -> Iterator[None]:
        """Only a cancelled call leaves a sequence that can go on."""
        try:
            yield
        except Cancelled:
            raise
        except BaseException:
            self._is_whole = False
            raise


def drawn(result: _core.StepResult) -> _core.Sampled:
    """What the sampler of an item drew. Raises what ended the item."""
    if result.error is not None:
        raise result.error
    if result.sampled is None:
        raise InputError("the pass had no room for one of its tokens; give it fewer sequences")
    return result.sampled


def append_alone(sequence: _core.Sequence, rows: ModelInput, wants_logits: bool) -> Logits | None:
    logits = sequence.append(rows.tokens, inputs=rows.inputs, logits="last" if wants_logits else "none")
    return logits[-1] if wants_logits else None


def _input(prompt: Prompt) -> ModelInput:
    return prompt if isinstance(prompt, ModelInput) else ModelInput(np.asarray(prompt, np.int32))
