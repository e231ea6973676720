"""When one draft more, or a first one, is tried, and what pays for it."""

import itertools

import pytest
from simulated import Simulated, dense, experts

from qwen35_local.engine.acceptance import MOST_DRAFTS
from qwen35_local.engine.draft_costs import PassCosts
from qwen35_local.engine.draft_tuner import (
    MOST_CREDIT,
    PLAIN_PASSES,
    TRIAL_SHARE,
    Choice,
    DraftTuner,
    Offer,
)


def test_time_is_shared_by_all_replies_of_a_pass() -> None:
    """Each of four replies chooses once a pass: together they have the credit of one."""
    grown = []
    for others in (0, 3):
        engine = Simulated(dense, noise=0)
        engine.reply(PLAIN_PASSES, lambda source, n: 0.0, lambda n: [], others=others)
        began = engine.history.trial_credit
        engine.reply(100, lambda source, n: 0.0, lambda n: [], others=others)
        grown.append(engine.history.trial_credit - began)
    assert grown == pytest.approx([100 * TRIAL_SHARE, 25 * TRIAL_SHARE])


def with_drafts(acceptance: float) -> tuple[DraftTuner, PassCosts]:
    """A reply in the middle, on a device that is known; no pass without drafts is due."""
    engine = Simulated(experts, noise=0)
    tuner, _ = engine.reply(300, lambda source, n: acceptance)
    engine.history._since_plain, engine.history._until_plain = 0, 10**6
    return tuner, engine.costs


def test_a_trial_follows_at_once_where_drafts_end() -> None:
    """It may have been bad luck. Each that does not succeed doubles the time until the next."""
    tuner, costs = with_drafts(0.9)
    trials, end = list[int](), None
    for n in range(200):
        tuner._history.credit = MOST_CREDIT  # it is not what ends them
        choice = tuner.choose([Offer("mtp", MOST_DRAFTS)], costs)
        end = n if end is None and not tuner._drafts else end
        trials += [n] * (tuner._is_trial and end is not None)
        tuner.note(choice.n, 0)
    assert trials[0] == end
    assert [after - before for before, after in itertools.pairwise(trials)][:4] == [2, 4, 8, 16]


def until_trial(tuner: DraftTuner, costs: PassCosts) -> float:
    """The credit for trials before one of one draft more."""
    for n in range(400):
        before = tuner._history.trial_credit
        chosen = tuner.choose([Offer("mtp", MOST_DRAFTS)], costs).n
        if tuner._is_trial and tuner._drafts:
            return before
        tuner.note(chosen, chosen * (n % 10 < 7))
    raise AssertionError("no trial")


def test_a_trial_is_paid_from_what_grows_with_time() -> None:
    tuner, costs = with_drafts(0.7)
    tuner._history.trial_credit = 1.0
    before = until_trial(tuner, costs)
    assert tuner._history.trial_credit < before + TRIAL_SHARE - 0.001
    tuner, costs = with_drafts(0.7)
    tuner._history.trial_credit = -1.0
    with pytest.raises(AssertionError, match="no trial"):
        until_trial(tuner, costs)


def test_a_pass_without_drafts_is_no_trial() -> None:
    """Where one is due, what it comes to says nothing of the drafts that would have been tried."""
    tuner, costs = with_drafts(0.7)
    tuner._history.trial_credit = MOST_CREDIT
    until_trial(tuner, costs)
    tuner.note(0, 0)
    tuner._gap = tuner._since_trial = 8
    tuner._history.trial_credit, tuner._history._since_plain = MOST_CREDIT, 10**6
    assert tuner.choose([Offer("mtp", MOST_DRAFTS)], costs) == Choice(None, 0)
    tuner.note(0, 0)
    assert tuner._gap == 8
