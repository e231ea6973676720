"""Drafts for every reply that is being written: from the MTP block, or copied from what came before. A pass verifies
them; which there are, and how many, changes how fast a reply comes and nothing else (docs/speculation.md).
"""

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from qwen35_local import _core
from qwen35_local.engine.acceptance import Source
from qwen35_local.engine.copy_lookup import Copied
from qwen35_local.engine.draft_costs import PassCosts
from qwen35_local.engine.draft_tuner import Choice, DraftHistory, DraftTuner, Offer
from qwen35_local.engine.grammar import Mask
from qwen35_local.engine.line import Line
from qwen35_local.models.drafts import MOST_DRAFTS, Drafts


class Propose(Protocol):
    """What puts drafts on lines before a pass, and is told what it took."""

    def propose(self, model: _core.Model, lines: Sequence[Line], spare_rows: int) -> None:
        """`spare_rows`: of keys and values, that all lines together may take for drafts."""

    def took(self, lines: Sequence[Line], n_rows: int, seconds: float) -> None:
        """The end of a pass with these lines and nothing else, of so many rows. `seconds` are the pass' and a token's
        share of what became of its tokens."""


UNSEEN_SECONDS = 8e-5
"""What Python does for a pass with drafts beside thinking of them: of consequence to models that fit into a cache."""
THOUGHT_SHARE = 0.01  # of the time, for finding that drafts do not pay
LONGEST_REST = 63  # passes


class Lookup(Protocol):
    """Drafts that need no model."""

    def draft(self, n: int) -> Copied: ...


class Drafted(Protocol):
    """What drafts are put on: a line, or what a benchmark writes in the place of one."""

    tuner: DraftTuner | None

    @property
    def sequence(self) -> _core.Sequence: ...

    @property
    def pending(self) -> Sequence[int]: ...

    @property
    def mask(self) -> Mask | None: ...

    @property
    def lookup(self) -> Lookup: ...

    @property
    def room(self) -> int: ...

    def put(self, drafts: Sequence[int], source: Source | None = None, *, gave_up: bool = False) -> None: ...


class _Asked(NamedTuple):
    line: Drafted
    n: int


class Drafting:
    """Of one engine: what it has learnt of its device and of its replies."""

    def __init__(self, drafts: Drafts = "auto") -> None:
        self._fixed = drafts if isinstance(drafts, int) else None
        self._history = DraftHistory()
        self._costs: dict[int, PassCosts] = {}  # by the number of lines
        self._thought_seconds = 0.0  # of late, for one line
        self._rest = 0  # passes for which no drafts are thought of
        self._has_block: bool | None = None

    def propose(self, model: _core.Model, lines: Sequence[Drafted], spare_rows: int) -> None:
        if self._rest:
            self._rest -= 1
            return
        started = time.monotonic()
        costs = self._costs_of(lines)
        n_rows = sum(len(line.pending) for line in lines)
        spare = min(spare_rows, model.pass_rows - n_rows)
        asked: list[_Asked] = []
        n_drafts = 0
        for n, line in enumerate(lines):
            most = min(MOST_DRAFTS, model.drafts, spare // (len(lines) - n), line.room)
            choice, copied = self._choose(model, line, most, n_rows, costs)
            if choice.source == "copy":
                line.put(copied[: choice.n], "copy")
            elif choice.source == "mtp":
                asked.append(_Asked(line, choice.n))
            n_rows += choice.n
            n_drafts += choice.n
            spare -= choice.n
        thought = (time.monotonic() - started) / len(lines)
        self._thought_seconds += 0.1 * (thought - self._thought_seconds)
        if not n_drafts and self._fixed is None:
            share = len(lines) * self._thought_seconds / (THOUGHT_SHARE * costs.pass_seconds(n_rows))
            self._rest = min(LONGEST_REST, int(share))
        if asked:
            self._ask_block(model, asked, costs, self._least(costs, lines), started)

    def _choose(
        self, model: _core.Model, line: Drafted, most: int, n_rows: int, costs: PassCosts
    ) -> tuple[Choice, list[int]]:
        """How many drafts of which source, and what there is to copy. `n_rows`: of the pass so far."""
        own = len(line.pending)
        copied = line.lookup.draft(most)
        offers = [Offer("copy", len(copied.tokens), copied.matched)] if copied.tokens else []
        if self._has_block is None:
            self._has_block = has_block(model)
        if most and own == 1 and self._has_block:
            offers.append(Offer("mtp", most))
        if self._fixed is None:
            line.tuner = line.tuner or DraftTuner(self._history)
            return line.tuner.choose(offers, costs, n_rows - own), copied.tokens
        for offer in offers:
            return Choice(offer.source, min(offer.n, self._fixed)), copied.tokens
        return Choice(None, 0), []

    def took(self, lines: Sequence[Drafted], n_rows: int, seconds: float) -> None:
        if self._rest % 4 == 0:  # passes without drafts need not all be measured
            self._costs_of(lines).note_pass(n_rows, seconds)

    def _costs_of(self, lines: Sequence[Drafted]) -> PassCosts:
        found = self._costs.get(len(lines))
        if found is None:
            found = self._costs[len(lines)] = PassCosts(UNSEEN_SECONDS)
        return found

    def _least(self, costs: PassCosts, lines: Sequence[Drafted]) -> float:
        """How likely one more draft has to be accepted to be worth its time, by the rate without drafts."""
        if self._fixed is not None:
            return 0.0
        n_rows = len(lines)
        plain = costs.pass_seconds(n_rows)
        return n_rows * (costs.pass_seconds(n_rows + 1) - plain + costs.draft_seconds(1)) / plain

    @staticmethod
    def _ask_block(model: _core.Model, asked: Sequence[_Asked], costs: PassCosts, least: float, started: float) -> None:
        """`started`: when thinking of drafts began, which is part of what they cost."""
        items = [(line.sequence, line.pending[-1], n, line.mask, least) for line, n in asked]
        drafted = model.draft(items)
        steps = max(min(len(drafts) + 1, n) for (_, n), drafts in zip(asked, drafted, strict=True))
        costs.note_draft(steps, time.monotonic() - started)
        for (line, n), drafts in zip(asked, drafted, strict=True):
            line.put([token for token, _ in drafts], "mtp", gave_up=len(drafts) < n)


def has_block(model: _core.Model) -> bool:
    """Whether the model has a block that drafts, and was loaded to."""
    return model.drafts > 0 and bool(model.config["mtp_layers"])
