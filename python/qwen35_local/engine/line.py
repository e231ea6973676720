"""A reply, and the sequence that it is written on."""

from collections.abc import Sequence

import numpy as np

from qwen35_local import _core
from qwen35_local.engine.acceptance import Source
from qwen35_local.engine.cached_sequence import Part
from qwen35_local.engine.copy_lookup import CopyLookup
from qwen35_local.engine.draft_tuner import DraftTuner
from qwen35_local.engine.generation import Generation
from qwen35_local.engine.grammar import Mask
from qwen35_local.engine.model_input import ModelInput
from qwen35_local.engine.reply import Event


class Line:
    """From pass to pass: drafts are put on it (`put`), `part` takes them along, `took` keeps those that were drawn."""

    tuner: DraftTuner | None = None

    def __init__(self, generation: Generation, sequence: _core.Sequence) -> None:
        self.generation = generation
        self.sequence = sequence
        self.drafts: list[int] = []
        self._gave_up = False
        self._source: Source | None = None
        self._lookup: CopyLookup | None = None
        self._n_looked_up = 0  # tokens of the reply that it has

    @property
    def pending(self) -> list[int]:
        """Tokens of the reply that the next pass evaluates in any case."""
        return self.generation.pending

    @property
    def mask(self) -> Mask | None:
        """Which tokens may be drawn next."""
        return self.generation.mask

    @property
    def lookup(self) -> CopyLookup:
        """Everything that was read and written so far, to copy from."""
        written = self.generation.reply.written
        if self._lookup is None:
            self._lookup = CopyLookup(self.sequence.tokens.tolist())
            self._lookup.extend(self.pending)
        else:
            self._lookup.extend(written[self._n_looked_up :])
        self._n_looked_up = len(written)
        return self._lookup

    @property
    def room(self) -> int:
        """Drafts that the reply and the context have room for."""
        behind = len(self.sequence) + len(self.pending)
        return max(0, min(self.generation.room - 1, self.sequence.context_tokens - behind - 1))

    def put(self, drafts: Sequence[int], source: Source | None = None, *, gave_up: bool = False) -> None:
        """For the next pass. `gave_up`: one more was thought of, and is too unlikely."""
        self.drafts = self.generation.look_ahead(drafts)
        self._source = source
        self._gave_up = gave_up and len(self.drafts) == len(drafts)

    def part(self, logprobs: int | None) -> Part:
        tokens = np.array([*self.pending, *self.drafts], np.int32)
        return Part(
            self.sequence,
            ModelInput(tokens),
            sampler=self.generation.sampler,
            logprobs=logprobs,
            uncertain=len(self.drafts),
        )

    def took(self, result: _core.StepResult) -> list[Event]:
        """The events of what a pass with `part` drew."""
        reply, n_drafts = self.generation.reply, len(self.drafts)
        n_stand, told = self.generation.take(result.sampled)
        reply.passes += 1
        if n_drafts:
            self.sequence.rewind(len(self.sequence) - n_drafts + n_stand - 1)
            reply.count_drafts(n_drafts, n_stand - 1, are_copies=self._source == "copy")
        if self.tuner is not None:
            self.tuner.note(n_drafts + self._gave_up, len(result.sampled) - 1)
            reply.saved_seconds = self.tuner.seconds_saved
        self.drafts, self._gave_up = [], False
        return told
