"""How many tokens to draft next: the number with the most expected tokens per second.

Of n drafts with conditional acceptances a1 ... an, 1 + a1 + a1 a2 + ... tokens are expected (Leviathan et al. 2023,
for one rate), in the time of a pass with n more rows and of n draft steps. There are drafts only where that is faster
than a pass without by more than a margin.

Never much slower than off: what drafts lose against passes without them is paid from a credit, one and a half passes at
first, which grows by a small share of the time and by what drafts save. There are no more drafts than it could pay for
if none were accepted. From it come the trials by which a reply without drafts finds that it has become predictable. A
reply with drafts tries one more from a second credit, which grows by that share alone; and now and then a pass without,
since what that costs is what every gain is measured by.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from qwen35_local.engine.acceptance import (
    ENGINE_DECAY,
    ENGINE_WEIGHT,
    FIRST_RATES,
    REPLY_DECAY,
    REPLY_WEIGHT,
    SOURCES,
    Acceptance,
    Source,
    kinds,
)
from qwen35_local.engine.draft_costs import PassCosts
from qwen35_local.models.drafts import MOST_DRAFTS

MARGIN = 0.03  # of the tokens per second without drafts: the gain from which on there are any
TRIAL_SHARE = 0.004  # of the time, for losing against no drafts, and for losing against the best number
START_CREDIT, MOST_CREDIT = 1.5, 8.0  # passes
FIRST_GAP, LONGEST_GAP = 4, 32  # passes between two trials that do not succeed
PLAIN_PASSES = 3  # of an engine, before its first draft
MOST_UNTIL_PLAIN = 48  # passes with drafts until one without; at first 4, then twice as many each time
LEAST_REACHED = 0.02  # a draft that is accepted more rarely is not thought of


class Offer(NamedTuple):
    """Up to `n` drafts can be had from a source; of a copy, `matched` tokens before it match."""

    source: Source
    n: int
    matched: int = 0


class Choice(NamedTuple):
    """Drafts for the next pass; none: no source."""

    source: Source | None
    n: int


class _Plan(NamedTuple):
    """A choice, the kinds of its drafts, and what is expected: tokens of this reply, seconds, and tokens per second of
    all replies."""

    choice: Choice
    kinds: Sequence[int]
    tokens: float
    seconds: float
    speed: float


_BY_SPEED = attrgetter("speed")


class DraftHistory:
    """What the replies of an engine have in common. Credits are in passes without drafts."""

    def __init__(self) -> None:
        self.acceptance = {source: Acceptance(FIRST_RATES[source], ENGINE_DECAY, ENGINE_WEIGHT) for source in SOURCES}
        self.most_drafted: dict[Source, int] = dict.fromkeys(SOURCES, 0)
        """At once. One more may be drafted, since what it costs is a guess."""
        self.credit = START_CREDIT
        """For losing against passes without drafts."""
        self.trial_credit = 0.0
        """For losing against the best number of drafts."""
        self._until_plain, self._since_plain = 4, 0

    def grow(self, passes: float) -> None:
        """So much time has gone by."""
        self.credit = min(self.credit + TRIAL_SHARE * passes, MOST_CREDIT)
        self.trial_credit = min(self.trial_credit + TRIAL_SHARE * passes, MOST_CREDIT)

    def plain_is_due(self) -> bool:
        """Before a pass with drafts: whether it had better be one without."""
        self._since_plain += 1
        if self._since_plain <= self._until_plain:
            return False
        self._until_plain = min(2 * self._until_plain, MOST_UNTIL_PLAIN)
        self._since_plain = 0
        return True

    def save(self, passes: float) -> None:
        """A pass took so much less than its tokens would have taken without drafts."""
        self.credit = min(self.credit + passes, MOST_CREDIT)


class DraftTuner:
    """Of one reply. For every pass `choose`, then `note` what became of it; after a choice of no drafts some passes may
    be noted without having been chosen for."""

    def __init__(self, history: DraftHistory) -> None:
        self.passes = 0
        self.tokens = 0
        self.drafted: dict[Source, int] = dict.fromkeys(SOURCES, 0)
        self.accepted: dict[Source, int] = dict.fromkeys(SOURCES, 0)
        self.seconds_saved = 0.0
        """Of all replies of a pass, against passes without drafts of this one; by what is known of their costs."""
        self._history = history
        self._acceptance = {
            source: Acceptance(history.acceptance[source].rates, REPLY_DECAY, REPLY_WEIGHT) for source in SOURCES
        }
        self._plain = self._plan = _Plan(Choice(None, 0), (), 1.0, 1.0, 1.0)
        self._drafts = False
        self._is_trial = False
        self._gap, self._since_trial, self._n_trials = FIRST_GAP, 0, 0
        self._since_choice = 0  # passes

    @property
    def tokens_per_pass(self) -> float:
        return self.tokens / max(self.passes, 1)

    def choose(self, offers: Sequence[Offer], costs: PassCosts, rows_of_others: int = 0) -> Choice:
        """For a pass that holds so many rows of other replies. Each counts as a token that they gain: what slows them
        has to bring as much more here."""
        passes = costs.each_pass(rows_of_others + 1, rows_of_others + 1 + MOST_DRAFTS)
        plain = _Plan(Choice(None, 0), (), 1.0, passes[0], (rows_of_others + 1) / passes[0])
        best, trials = plain, []
        self._history.grow(max(self._since_choice, 1) / (rows_of_others + 1))
        self._since_trial += max(self._since_choice, 1)
        self._since_choice = 0
        for offer in offers if costs.n_passes >= PLAIN_PASSES else ():
            drafts = costs.each_draft(MOST_DRAFTS if offer.source == "mtp" else 0)
            plans = self._plans(offer, passes, drafts, rows_of_others)
            own = max(plans, key=_BY_SPEED, default=plain)
            if own.speed <= (1 + MARGIN) * plain.speed:
                own = plain
            if own.choice.n < len(plans):
                trials.append(plans[own.choice.n])
            best = max(best, own, key=_BY_SPEED)
        if best is plain and self._drafts:
            self._gap = 1  # it may have been bad luck
        self._drafts = best is not plain
        self._plain = plain
        self._plan = self._trial(best, trials, rows_of_others) or best
        if self._plan is not plain and self._history.plain_is_due():
            self._plan, self._is_trial = plain, False
        return self._plan.choice

    def note(self, drafted: int, accepted: int) -> None:
        """After the pass that was chosen for: there were so many drafts, and so many of them were accepted."""
        source = self._plan.choice.source
        self.passes += 1
        self._since_choice += 1
        self.tokens += 1 + accepted
        saved = self._plain.seconds + accepted / self._plain.speed - self._plan.seconds
        if self._is_trial:
            self._gap = 1 if drafted == accepted and saved > 0 else min(2 * self._gap, LONGEST_GAP)
        if source is None or not drafted:
            return
        history, own = self._history, self._plan.kinds[:drafted]
        self.drafted[source] += drafted
        self.accepted[source] += accepted
        self._acceptance[source].note(own, accepted)
        history.acceptance[source].note(own, accepted)
        history.most_drafted[source] = max(history.most_drafted[source], drafted)
        history.save(saved / self._plain.seconds)
        self.seconds_saved += saved

    def _plans(
        self, offer: Offer, passes: Sequence[float], drafts: Sequence[float], rows_of_others: int
    ) -> list[_Plan]:
        """Of 1, 2 ... drafts, as many as may be. `passes`, `drafts`: seconds by number of drafts; of copies one for
        all numbers."""
        history, source = self._history, offer.source
        most = min(offer.n, MOST_DRAFTS, history.most_drafted[source] + 1)
        slowest = passes[0] * (1 + history.credit)
        own, rates = kinds(source, most, offer.matched), self._acceptance[source].rates
        plans, tokens, reached = [], 1.0, 1.0
        for n, kind in enumerate(own, 1):
            reached *= rates[kind]
            tokens += reached
            seconds = passes[n] + drafts[min(n, len(drafts) - 1)]
            if seconds > slowest or (reached < LEAST_REACHED and n > 1):
                break
            plans.append(_Plan(Choice(source, n), own, tokens, seconds, (rows_of_others + tokens) / seconds))
        return plans

    def _trial(self, best: _Plan, trials: Sequence[_Plan], rows_of_others: int) -> _Plan | None:
        """One of `trials` now and then, in turn."""
        self._is_trial = False
        if not trials or self._since_trial < self._gap:
            return None
        plan, history = trials[self._n_trials % len(trials)], self._history
        if best.choice.source is not None:
            tokens = best.tokens if plan.choice.source == best.choice.source else 1.0
            loss = (plan.seconds - (rows_of_others + tokens) / best.speed) / self._plain.seconds
            if loss > history.trial_credit:
                return None
            history.trial_credit -= max(loss, 0.0)
        self._since_trial, self._n_trials, self._is_trial = 0, self._n_trials + 1, True
        return plan
