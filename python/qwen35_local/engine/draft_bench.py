"""What drafts gain: the same reply with them and without, in turns: the tests of `qwen35 bench --draft`.

Without drafts is a model that was loaded without, so that what it takes to be ready for them counts too. The engine's
own `Drafting` chooses; a reply without text stands in the place of an engine's, since a model with random weights has
no tokenizer. Where the acceptance is given, the MTP block is run for what it costs, and each draft is then replaced by
the token that is known to come, or by a wrong one. What is drawn is compared with what is drawn without drafts.
"""

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random

import numpy as np

from qwen35_local import _core
from qwen35_local.engine.acceptance import Source
from qwen35_local.engine.copy_lookup import KEY_TOKENS, Copied, CopyLookup
from qwen35_local.engine.draft_cases import DraftCase, DraftRun, Turn
from qwen35_local.engine.draft_costs import PassCosts
from qwen35_local.engine.draft_skills import requests
from qwen35_local.engine.draft_tuner import DraftTuner
from qwen35_local.engine.drafting import Drafted, Drafting, Lookup, has_block
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.grammar import Mask
from qwen35_local.engine.reply import Done
from qwen35_local.errors import DeviceError, InputError
from qwen35_local.models.drafts import Drafts
from qwen35_local.models.kv import KvFormat
from qwen35_local.progress import Progress
from qwen35_local.text.tokenizer import Tokenizer

_PIECE_TOKENS = 1024
_COST_ROWS = (2, 4, 8)
_COST_ROUNDS, _COST_PASSES = 7, 4
_COST_DRAFTS = 4


@dataclass(frozen=True)
class PassRatios:
    """Medians of what passes take against one of one row, measured in turns: of two, four and eight rows; a draft step,
    of a few one behind the other (None without a block); and of one row against a model that was loaded without
    drafts."""

    pass_of_2: float
    pass_of_4: float
    pass_of_8: float
    draft_step: float | None
    ready_for_drafts: float


class DraftBench:
    """Runs cases on one model, loaded twice. Of growing depth they extend one context on each side."""

    def __init__(self, off: _core.Model, on: _core.Model, drafts: Drafts = "auto") -> None:
        """`on` was loaded for drafts."""
        self._off, self._on = _Side(off), _Side(on)
        self._drafts = drafts
        self._case: DraftCase | None = None

    def check(self, cases: Seq[DraftCase]) -> None:
        """Raises InputError for a case that the model's context does not hold."""
        context = self._off.model.context_tokens
        for case in cases:
            if case.last_position > context:
                raise InputError(
                    f"{case.name} takes {case.last_position} positions, and this model has {context}; "
                    "give a shorter --gen or --depth"
                )

    def prepare(self, case: DraftCase, progress: Progress = lambda done, total: None) -> None:
        """Reads what has to be in the context, and notes what comes without drafts. An engine is begun anew."""
        sides = (self._off, self._on)
        for n, side in enumerate(sides):
            side.read(case, lambda done, total, n=n: progress(n * total + done, len(sides) * total))  # type: ignore[misc]
        self._case, self._random = case, Random(0)
        self._drafting = _GivenDrafting(self._drafts) if case.kind == "given" else Drafting(self._drafts)
        if case.kind == "skill":
            self._off.begin_engine(case, None)
            self._on.begin_engine(case, self._drafting)
            self._texts = self._off.replies(case)[1]
        elif case.kind == "quote":
            self._coming = self._off.prompt(case)[-case.n_gen :]
        else:
            line = _Line(case, self._off, None)
            _write(self._off.model, [line], None)
            self._coming = line.written

    def turn(self) -> Turn:
        """Of the case that was prepared. Raises DeviceError when a token with drafts is another one."""
        return Turn(self._run(self._off, None), self._run(self._on, self._drafting), self._run(self._off, None))

    def _run(self, side: "_Side", drafting: Drafting | None) -> DraftRun:
        case = self._case
        assert case is not None
        if case.kind == "skill":
            run, texts = side.replies(case)
            for expected, text in zip(self._texts, texts, strict=True):
                if text != expected:
                    raise DeviceError(f"{case.name}: {_differ(repr(text), repr(expected))}")
            return run
        kind = _Quote if case.kind == "quote" else _Given
        return _write(side.model, [kind(case, side, self._coming, self._random) for _ in range(case.batch)], drafting)

    def pass_ratios(self) -> PassRatios:
        """At the depth of the case that was prepared."""
        case = self._case
        assert case is not None
        off, on = self._off.fork(), self._on.fork()
        rows: dict[int, list[float]] = {n: [] for n in _COST_ROWS}
        ready, steps = [], []
        for _ in range(_COST_ROUNDS):
            plain = _pass_seconds(self._off, off, 1)
            one = _pass_seconds(self._on, on, 1)
            ready.append(one / plain)
            for n in _COST_ROWS:
                rows[n].append(_pass_seconds(self._on, on, n) / one)
            if has_block(self._on.model):
                started = time.perf_counter()
                self._on.model.draft([(on, 0, _COST_DRAFTS)])
                steps.append((time.perf_counter() - started) / _COST_DRAFTS / one)
        two, four, eight = (float(np.median(rows[n])) for n in _COST_ROWS)
        return PassRatios(two, four, eight, float(np.median(steps)) if steps else None, float(np.median(ready)))


class _Side:
    """A model, and what was read on it."""

    def __init__(self, model: _core.Model) -> None:
        self.model = model
        self._random = np.random.default_rng(0)
        self._tokens: list[int] = []
        self._context: _core.Sequence | None = None
        self._kv: KvFormat = "f16"

    def prompt(self, case: DraftCase) -> list[int]:
        """Random tokens, the same on both sides; a longer one begins like a shorter one."""
        missing = case.prompt_tokens - len(self._tokens)
        self._tokens += self._random.integers(0, self.model.n_tokens_used, max(missing, 0), dtype=np.int32).tolist()
        return self._tokens[: case.prompt_tokens]

    def read(self, case: DraftCase, progress: Progress) -> None:
        """All of the prompt but its last token."""
        prompt = self.prompt(case)[:-1]
        if self._context is None or len(self._context) > len(prompt) or self._kv != case.kv:
            self._context, self._kv = _core.Sequence(self.model, kv=case.kv), case.kv
        while (done := len(self._context)) < len(prompt):
            progress(done, len(prompt))
            self._context.append(prompt[done : done + _PIECE_TOKENS], logits="none")
        progress(len(prompt), len(prompt))

    def fork(self) -> _core.Sequence:
        assert self._context is not None
        return self._context.fork()

    def begin_engine(self, case: DraftCase, drafting: Drafting | None) -> None:
        """Raises FormatError or TemplateError for a model that cannot talk."""
        metadata = self.model.metadata
        self._engine = Engine(
            self.model, metadata=metadata, tokenizer=Tokenizer(metadata), kv=case.kv, drafting=drafting
        )

    def replies(self, case: DraftCase) -> tuple[DraftRun, list[object]]:
        """To each prompt of the skill; the time is that from the first token on."""
        assert case.skill is not None
        dones = [
            event
            for request in requests(case.skill, case.temperature)
            for event in self._engine.reply(request)
            if isinstance(event, Done)
        ]
        usages = [done.usage for done in dones]
        run = DraftRun(
            sum(usage.seconds - usage.first_token_seconds for usage in usages),
            sum(usage.generated_tokens - 1 for usage in usages),
            sum(usage.drafted_tokens for usage in usages),
            sum(usage.accepted_tokens for usage in usages),
        )
        return run, [(done.message, done.reason) for done in dones]


class _GivenDrafting(Drafting):
    """Does not ask how likely the block takes its drafts to be: those are not the ones that are verified."""

    def _least(self, costs: PassCosts, lines: Seq[Drafted]) -> float:
        return 0.0


class _NoCopies:
    def draft(self, n: int) -> Copied:
        return Copied([], 0)


class _FreeDrafts:
    """Of a model without a block: as many as are asked for, behind the shortest match."""

    def draft(self, n: int) -> Copied:
        return Copied([0] * n, KEY_TOKENS[-1])


class _Line:
    """A reply without text that goes on behind a prompt, in the place of `engine.line.Line`."""

    tuner: DraftTuner | None = None
    mask: Mask | None = None

    def __init__(self, case: DraftCase, side: _Side, coming: Seq[int] | None) -> None:
        """`coming`: the tokens that have to be drawn; None: they are not known yet."""
        self.sequence = side.fork()
        self.pending = side.prompt(case)[-1:]
        self.drafts: list[int] = []
        self._gave_up = False
        self.written: list[int] = []
        self.drafted = self.accepted = 0
        self.n_tokens = case.n_gen
        self.lookup: Lookup = _NoCopies()
        self._name = case.name
        self._coming = coming
        self._n_used = side.model.n_tokens_used
        self.sampler = _core.Sampler(temperature=1.0, top_k=20, top_p=0.95, seed=0, n_tokens_used=self._n_used)

    @property
    def room(self) -> int:
        return self.n_tokens - len(self.written) - 1

    def put(self, drafts: Seq[int], source: Source | None = None, *, gave_up: bool = False) -> None:
        self.drafts, self._gave_up = list(drafts), gave_up

    def item(self) -> _core.StepItem:
        tokens = [*self.pending, *self.drafts]
        return _core.StepItem(self.sequence, tokens, sampler=self.sampler, uncertain=len(self.drafts))

    def took(self, result: _core.StepResult) -> None:
        """Raises what ended the pass, and DeviceError for a token that was not to come."""
        if result.error is not None:
            raise result.error
        drawn = [sampled.token for sampled in result.sampled]
        at = len(self.written)
        if self._coming is not None and drawn != list(self._coming[at : at + len(drawn)]):
            expected = list(self._coming[at : at + len(drawn)])
            raise DeviceError(f"{self._name}, behind {at} tokens: {_differ(repr(drawn), repr(expected))}")
        if self.drafts:
            self.sequence.rewind(len(self.sequence) - len(self.drafts) + len(drawn) - 1)
        if self.tuner is not None:
            self.tuner.note(len(self.drafts) + self._gave_up, len(drawn) - 1)
        self.drafted += len(self.drafts)
        self.accepted += len(drawn) - 1
        self.written += drawn
        self.pending, self.drafts, self._gave_up = drawn[-1:], [], False


class _Given(_Line):
    """Whose drafts are right with a given probability, whoever made them."""

    def __init__(self, case: DraftCase, side: _Side, coming: Seq[int], random: Random) -> None:
        super().__init__(case, side, coming)
        assert case.acceptance is not None
        self._acceptance = case.acceptance
        self._random = random
        if not has_block(side.model):
            self.lookup = _FreeDrafts()

    def put(self, drafts: Seq[int], source: Source | None = None, *, gave_up: bool = False) -> None:
        assert self._coming is not None
        right = self._coming[len(self.written) : len(self.written) + len(drafts)]
        given = [token if self._random.random() < self._acceptance else (token + 1) % self._n_used for token in right]
        super().put(given)


class _Quote(_Line):
    """Whose tokens are those of its prompt."""

    def __init__(self, case: DraftCase, side: _Side, coming: Seq[int], random: Random) -> None:
        super().__init__(case, side, coming)
        self._copies = CopyLookup(side.prompt(case))
        self.lookup = self._copies

    def item(self) -> _core.StepItem:
        assert self._coming is not None
        at = len(self.written)
        self.sampler.set_masks([self._only(token) for token in self._coming[at : at + 1 + len(self.drafts)]])
        return super().item()

    def _only(self, token: int) -> Mask:
        mask = np.zeros(-(-self._n_used // 32), np.uint32)
        mask[token // 32] = 1 << (token % 32)
        return mask

    def took(self, result: _core.StepResult) -> None:
        at = len(self.written)
        super().took(result)
        self._copies.extend(self.written[at:])


def _write(model: _core.Model, lines: Seq[_Line], drafting: Drafting | None) -> DraftRun:
    """As `engine.scheduler` does."""
    begin = time.perf_counter()
    while writing := [line for line in lines if len(line.written) < line.n_tokens]:
        if drafting is not None:
            drafting.propose(model, writing, model.pass_rows)
        n_rows = sum(1 + len(line.drafts) for line in writing)
        started = time.monotonic()
        results = model.step([line.item() for line in writing], rows=n_rows)
        ended = time.monotonic()
        for line, result in zip(writing, results, strict=True):
            line.took(result)
        if drafting is not None:
            n_drawn = sum(len(result.sampled) for result in results)
            drafting.took(writing, n_rows, ended - started + (time.monotonic() - ended) / n_drawn)
    return DraftRun(
        time.perf_counter() - begin,
        sum(line.n_tokens for line in lines),
        sum(line.drafted for line in lines),
        sum(line.accepted for line in lines),
    )


def _pass_seconds(side: _Side, sequence: _core.Sequence, n_rows: int) -> float:
    """Of the fastest of a few passes alike, since the first ones find the caches full of another model's weights. All
    rows but one are taken back; what follows is drawn."""
    sampler = _core.Sampler(temperature=0.0, n_tokens_used=side.model.n_tokens_used)
    found: list[float] = []
    for _ in range(_COST_PASSES):
        item = _core.StepItem(sequence, [0] * n_rows, sampler=sampler, uncertain=n_rows - 1)
        begin = time.perf_counter()
        [result] = side.model.step([item], rows=n_rows)
        found.append(time.perf_counter() - begin)
        if result.error is not None:
            raise result.error
        sequence.rewind(len(sequence) - n_rows + 1)
    return min(found)


def _differ(drawn: str, expected: str) -> str:
    return f"drew {drawn} with drafts and {expected} without; run `qwen35 selftest`, and report what it says"
