"""A tuner of drafts on a device and a text that are made up. Time is counted in passes of one row."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qwen35_local.engine.acceptance import MOST_DRAFTS, Source
from qwen35_local.engine.draft_costs import PassCosts
from qwen35_local.engine.draft_tuner import Choice, DraftHistory, DraftTuner, Offer

DRAFT = 0.15


def dense(rows: int) -> float:
    return 1 + 0.05 * (rows - 1)


def experts(rows: int) -> float:
    return (1 + 0.3 * rows) / 1.3


def full(rows: int) -> float:
    """A device that eight rows keep busy."""
    return max(1.0, rows / 8)


class Step(NamedTuple):
    choice: Choice
    accepted: int
    tokens: int  # of the reply before it


class Simulated:
    """An engine's tuner on a device that costs `cost(rows)`."""

    def __init__(self, cost: Callable[[int], float], seed: int = 0, noise: float = 0.05, rest: int = 0) -> None:
        """After a choice of no drafts, `rest` passes are not chosen for."""
        self.history = DraftHistory()
        self.costs = PassCosts()
        self.time = 0.0
        self._cost = cost
        self._noise = noise
        self._rest = rest
        self._random = np.random.default_rng(seed)

    def reply(
        self,
        n_tokens: int,
        acceptance: Callable[[Source, int], float],
        offers: Callable[[int], list[Offer]] = lambda done: [Offer("mtp", MOST_DRAFTS)],
        others: int = 0,
    ) -> tuple[DraftTuner, list[Step]]:
        """`acceptance` of a source after so many tokens."""
        tuner, steps, done, resting = DraftTuner(self.history), list[Step](), 0, 0
        while done < n_tokens:
            if resting:
                choice, resting = Choice(None, 0), resting - 1
            else:
                choice = tuner.choose(offers(done), self.costs, others)
                resting = 0 if choice.n else self._rest
            accepted = 0
            while accepted < choice.n and self._random.random() < acceptance(choice.source or "mtp", done):
                accepted += 1
            rows, drafting = others + 1 + choice.n, DRAFT * choice.n * (choice.source == "mtp")
            self.time += self._cost(rows) + drafting
            self.costs.note_pass(rows, self._heard(self._cost(rows)))
            if drafting:
                self.costs.note_draft(choice.n, self._heard(drafting))
            tuner.note(choice.n, accepted)
            steps.append(Step(choice, accepted, done))
            done += 1 + accepted
        return tuner, steps

    def _heard(self, passes: float) -> float:
        if not self._noise:
            return 0.004 * passes
        stall = 10 if self._random.random() < 0.01 else 1
        return 0.004 * passes * float(self._random.lognormal(0, self._noise)) * stall
