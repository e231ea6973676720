"""The cached sequence of the self-test: it notes the logits that a reply was drawn from, and shares its passes."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

import numpy as np

from qwen35_local import _core
from qwen35_local.engine.cache import Logits, PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence, Draw, Prompt, drawn
from qwen35_local.engine.model_input import ModelInput
from qwen35_local.models.memory import KV_FORMATS
from qwen35_local.progress import Progress

CHUNKS = (1, 5, 63, 64, 65, 256, 600)


class Recorder(CachedSequence):
    """Evaluates alone or beside another sequence of any format, in passes of any size, all drawn from `random`."""

    def __init__(self, sequence: _core.Sequence, cache: PrefixCache, model: _core.Model, random: Random) -> None:
        super().__init__(
            sequence,
            cache,
            chunk_tokens=random.choice(CHUNKS),
            checkpoint_tokens=random.choice([50, 300]),
            append=self._append_shared,
        )
        self.rows: list[Logits] = []
        """What the prompt and each token of the reply were followed by, [V] each."""
        self._model = model
        self._random = random
        self._other = self._another()

    def read(
        self, prompt: Prompt, checkpoints: Mapping[int, str], progress: Progress = lambda done, total: None
    ) -> Logits:
        logits = super().read(prompt, checkpoints, progress)
        self.rows = [logits]
        return logits

    def step(self, model: _core.Model, draws: Sequence[Draw]) -> list[_core.Sampled]:
        self.check_cancelled()
        self.logits = None
        (draw,) = draws  # the self-test asks for one reply at a time
        with self._torn_by_failure():
            result = self._evaluate(ModelInput(np.array(draw.tokens, np.int32)), "last", draw.sampler)
        self.rows.append(result.logits[-1])
        return [drawn(result)]

    def _append_shared(self, sequence: _core.Sequence, rows: ModelInput, wants_logits: bool) -> Logits | None:
        result = self._evaluate(rows, "last" if wants_logits else "none")
        return result.logits[-1] if wants_logits else None

    def _evaluate(
        self, rows: ModelInput, logits: Literal["none", "last"], sampler: _core.Sampler | None = None
    ) -> _core.StepResult:
        """The result of the pass with the last token."""
        while True:
            self.check_cancelled()
            mine = _core.StepItem(
                self._sequence,
                rows.tokens,
                inputs=rows.inputs,
                logits=logits,
                sampler=sampler,
            )
            items = self._with_another(mine)
            result = self._model.step(items, rows=self._random.choice(CHUNKS))[items.index(mine)]
            if result.error is not None:
                raise result.error
            if result.is_finished:
                return result
            rows = rows.part(result.evaluated, len(rows))

    def _with_another(self, mine: _core.StepItem) -> list[_core.StepItem]:
        chance = self._random.random()
        if chance < 0.6:
            return [mine]
        if len(self._other) > 500:
            self._other = self._another()
        noise = [self._random.randrange(self._model.n_tokens_used) for _ in range(self._random.randint(1, 5))]
        other = _core.StepItem(self._other, noise)
        return [mine, other] if chance < 0.8 else [other, mine]

    def _another(self) -> _core.Sequence:
        return _core.Sequence(self._model, kv=self._random.choice(KV_FORMATS))
