"""Drafts for every reply that is being written: from the MTP block, or copied from what came before. A pass verifies
them; which there are, and how many, changes how fast a reply comes and nothing else (docs/speculation.md).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from qwen35_local import _core
from qwen35_local.engine.acceptance import MOST_DRAFTS
from qwen35_local.engine.draft_costs import PassCosts
from qwen35_local.engine.draft_tuner import Choice, DraftHistory, DraftTuner, Offer
from qwen35_local.engine.line import Line
from qwen35_local.errors import InputError

Drafts: TypeAlias = Literal["auto", "off"] | int
"""How many drafts a pass verifies: as many as pay, none, or always so many, up to MOST_DRAFTS."""


class Propose(Protocol):
    """What puts drafts on lines before a pass, and is told what it took."""

    def propose(self, model: _core.Model, lines: Sequence[Line], spare_rows: int) -> None:
        """`spare_rows`: of keys and values, that all lines together may take for drafts."""

    def took(self, lines: Sequence[Line], n_rows: int, seconds: float) -> None:
        """The end of a pass with these lines and nothing else, of so many rows."""


@dataclass(frozen=True)
class _Asked:
    line: Line
    n: int


class Drafting:
    """Of one engine: what it has learnt of its device and of its replies."""

    def __init__(self, drafts: Drafts = "auto") -> None:
        self._fixed = drafts if isinstance(drafts, int) else None
        self._history = DraftHistory()
        self._costs: dict[int, PassCosts] = {}  # by the number of lines

    def propose(self, model: _core.Model, lines: Sequence[Line], spare_rows: int) -> None:
        costs = self._costs.setdefault(len(lines), PassCosts())
        n_rows = sum(len(line.generation.pending) for line in lines)
        spare = min(spare_rows, model.pass_rows - n_rows)
        asked: list[_Asked] = []
        for n, line in enumerate(lines):
            line.tuner = line.tuner or DraftTuner(self._history)
            most = min(MOST_DRAFTS, model.drafts, spare // (len(lines) - n), line.room)
            copied = line.lookup.draft(most)
            offers = [Offer("copy", len(copied.tokens), copied.matched)] if copied.tokens else []
            if has_block(model) and most and len(line.generation.pending) == 1:
                offers.append(Offer("mtp", most))
            own = len(line.generation.pending)
            choice = line.tuner.choose(offers, costs, n_rows - own) if self._fixed is None else self._first(offers)
            if choice.source == "copy":
                line.put(copied.tokens[: choice.n])
            elif choice.source == "mtp":
                asked.append(_Asked(line, choice.n))
            n_rows += choice.n
            spare -= choice.n
        if asked:
            self._ask_block(model, asked, costs)

    def took(self, lines: Sequence[Line], n_rows: int, seconds: float) -> None:
        self._costs.setdefault(len(lines), PassCosts()).note_pass(n_rows, seconds)

    def _first(self, offers: Sequence[Offer]) -> Choice:
        assert self._fixed is not None
        for offer in offers:
            return Choice(offer.source, min(offer.n, self._fixed))
        return Choice(None, 0)

    @staticmethod
    def _ask_block(model: _core.Model, asked: Sequence[_Asked], costs: PassCosts) -> None:
        started = time.monotonic()
        items = [
            (each.line.sequence, each.line.generation.pending[-1], each.n, each.line.generation.mask) for each in asked
        ]
        drafted = model.draft(items)
        costs.note_draft(max(each.n for each in asked), time.monotonic() - started)
        for each, drafts in zip(asked, drafted, strict=True):
            each.line.put([token for token, _ in drafts])


def most_drafts(drafts: Drafts) -> int:
    """What a model has to be loaded for. Raises InputError."""
    if drafts == "auto":
        return MOST_DRAFTS
    n = 0 if drafts == "off" else drafts
    if not 0 <= n <= MOST_DRAFTS:
        raise InputError(f"draft is {n}; expected auto, off, or 0 to {MOST_DRAFTS}")
    return n


def has_block(model: _core.Model) -> bool:
    """Whether the model has a block that drafts, and was loaded to."""
    return model.drafts > 0 and bool(model.config["mtp_layers"])
