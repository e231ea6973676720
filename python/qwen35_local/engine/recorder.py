"""What the self-test puts in the place of sequences and passes: they note the logits that a reply was drawn from, and
passes are cut and shared at random."""

from collections.abc import Sequence
from random import Random

from qwen35_local import _core
from qwen35_local.engine.cache import Logits, PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence, Part
from qwen35_local.engine.drafting import has_block
from qwen35_local.engine.line import Line
from qwen35_local.models.memory import KV_FORMATS

CHUNKS = (1, 5, 63, 64, 65, 256, 600)


class Passes:
    """Evaluates parts alone or beside another sequence of any format, in passes of any size, drawn from `random`."""

    def __init__(self, model: _core.Model, random: Random) -> None:
        self.rows: dict[int, Logits] = {}
        """What so many tokens were followed by, [V], from the end of the last prompt on."""
        self.drawn: set[int] = set()
        """Places of the tokens that a sampler drew behind the first one; others were put into the reply."""
        self.random = random
        self._model = model
        self._other = self._another()

    def __call__(self, model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        return [self._evaluated(model, part) for part in parts]

    def _evaluated(self, model: _core.Model, part: Part) -> _core.StepResult:
        """The result of the pass with its last rows."""
        if part.sampler is not None:  # tokens behind the first are not those that were drawn ahead
            self.drawn = {place for place in self.drawn if place <= len(part.sequence)}
        while True:
            mine = self._item(part)
            items = self._with_another(mine)
            rows = max(self.random.choice(CHUNKS), part.uncertain + 1)
            result = model.step(items, rows=rows)[items.index(mine)]
            if result.error is None and not result.is_finished:
                part = part._replace(rows=part.rows.part(result.evaluated, len(part.rows)))
                continue
            if part.sampler is not None and result.error is None:
                first = len(part.sequence) - part.uncertain
                for n in range(part.uncertain + 1):
                    self.rows[first + n] = result.logits[n - part.uncertain - 1]
                self.drawn.update(range(first, first + len(result.sampled)))
            return result

    @staticmethod
    def _item(part: Part) -> _core.StepItem:
        if part.sampler is None:
            return part.item()
        return _core.StepItem(
            part.sequence, part.rows.tokens, logits="all", sampler=part.sampler, uncertain=part.uncertain
        )

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
        self.passes.rows, self.passes.drawn = {len(self): logits}, {len(self)}
        return logits


class RandomDrafts:
    """Right ones and wrong ones: drafts of the MTP block, copies, tokens that were drawn at random, and mixtures."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def propose(self, model: _core.Model, lines: Sequence[Line], spare_rows: int) -> None:
        for line in lines:
            most = min(self._random.choice((0, 1, 2, 5, 8)), model.drafts, line.room, spare_rows // len(lines))
            drafts = self._random.choice((self._copied, self._of_block, self._noise))(model, line, most)
            cut = self._random.randint(0, most)
            line.put((drafts if self._random.random() < 0.6 else drafts[:cut] + self._noise(model, line, most))[:most])

    def took(self, lines: Sequence[Line], n_rows: int, seconds: float) -> None:
        """Nothing is learnt."""

    def _copied(self, model: _core.Model, line: Line, most: int) -> list[int]:
        return line.lookup.draft(most).tokens

    def _of_block(self, model: _core.Model, line: Line, most: int) -> list[int]:
        if not has_block(model) or len(line.generation.pending) != 1:
            return []
        [drafts] = model.draft([(line.sequence, line.generation.pending[0], most, line.generation.mask)])
        return [token for token, _ in drafts]

    def _noise(self, model: _core.Model, line: Line, most: int) -> list[int]:
        return [self._random.randrange(model.n_tokens_used) for _ in range(most)]
