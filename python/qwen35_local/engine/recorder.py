"""What the self-test puts in the place of sequences and passes: they note the logits that a reply was drawn from, and
passes are cut and shared at random."""

from collections.abc import Sequence
from random import Random

from qwen35_local import _core
from qwen35_local.engine.cache import Logits, PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence, Part
from qwen35_local.models.memory import KV_FORMATS

CHUNKS = (1, 5, 63, 64, 65, 256, 600)


class Passes:
    """Evaluates parts alone or beside another sequence of any format, in passes of any size, drawn from `random`."""

    def __init__(self, model: _core.Model, random: Random) -> None:
        self.rows: list[Logits] = []
        """What the last prompt and each token of its reply were followed by, [V] each."""
        self.random = random
        self._model = model
        self._other = self._another()

    def __call__(self, model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        return [self._evaluated(model, part) for part in parts]

    def _evaluated(self, model: _core.Model, part: Part) -> _core.StepResult:
        """The result of the pass with its last row."""
        is_reply = part.sampler is not None
        part = part._replace(wants_logits=part.wants_logits or is_reply)
        while True:
            mine = part.item()
            items = self._with_another(mine)
            result = model.step(items, rows=self.random.choice(CHUNKS))[items.index(mine)]
            if result.error is None and not result.is_finished:
                part = part._replace(rows=part.rows.part(result.evaluated, len(part.rows)))
                continue
            if is_reply and result.error is None:
                self.rows.append(result.logits[-1])
            return result

    def _with_another(self, mine: _core.StepItem) -> list[_core.StepItem]:
        chance = self.random.random()
        if chance < 0.6:
            return [mine]
        if len(self._other) > 500:
            self._other = self._another()
        noise = [self.random.randrange(self._model.n_tokens_used) for _ in range(self.random.randint(1, 5))]
        other = _core.StepItem(self._other, noise)
        return [mine, other] if chance < 0.8 else [other, mine]

    def _another(self) -> _core.Sequence:
        return _core.Sequence(self._model, kv=self.random.choice(KV_FORMATS))


class Recorder(CachedSequence):
    """Leaves snapshots at random, and begins the rows of its passes anew with each reply."""

    def __init__(self, sequence: _core.Sequence, cache: PrefixCache, passes: Passes) -> None:
        random = passes.random
        chunk, checkpoint = random.choice(CHUNKS), random.choice([50, 300])
        super().__init__(sequence, cache, chunk_tokens=chunk, checkpoint_tokens=checkpoint)
        self.passes = passes

    def taken_logits(self) -> Logits:
        logits = super().taken_logits()
        self.passes.rows = [logits]
        return logits
