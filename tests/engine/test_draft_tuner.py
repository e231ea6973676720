"""The number of drafts that brings the most, on simulated devices and texts: found soon, left soon, never dear.

Time is counted in passes of one row. What the tuner hears of it is noisy, and one pass in a hundred takes ten times as
long; what is compared are the true costs.
"""

from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
from simulated import DRAFT, Simulated, dense, experts, full

from qwen35_local.engine.acceptance import (
    FIRST_RATES,
    MOST_DRAFTS,
    REPLY_DECAY,
    REPLY_WEIGHT,
    Acceptance,
    Source,
    kinds,
)
from qwen35_local.engine.draft_tuner import (
    MARGIN,
    MOST_CREDIT,
    PLAIN_PASSES,
    START_CREDIT,
    Choice,
    DraftHistory,
    DraftTuner,
    Offer,
)

DEVICES = pytest.mark.parametrize("cost", [dense, experts])


def speeds(acceptance: float, cost: Callable[[int], float], draft: float = DRAFT) -> list[float]:
    """Tokens per pass without drafts, by number of drafts."""
    tokens = [sum(acceptance**i for i in range(n + 1)) for n in range(MOST_DRAFTS + 1)]
    return [tokens[n] / (cost(n + 1) + draft * n) for n in range(MOST_DRAFTS + 1)]


@DEVICES
@pytest.mark.parametrize("seed", range(4))
def test_nothing_accepted_costs_at_most_one_percent(cost: Callable[[int], float], seed: int) -> None:
    engine = Simulated(cost, seed)
    both = [Offer("mtp", MOST_DRAFTS), Offer("copy", MOST_DRAFTS, 3)]
    done = sum(len(engine.reply(200, lambda source, n: 0.0, lambda n: both)[1]) for _ in range(10))
    assert engine.time <= 1.01 * done * cost(1)


@DEVICES
def test_the_first_reply_loses_little_until_nothing_is_expected(cost: Callable[[int], float]) -> None:
    engines = [Simulated(cost, seed) for seed in range(8)]
    passes = [len(engine.reply(96, lambda source, n: 0.0)[1]) for engine in engines]
    lost = [engine.time / cost(1) - n for engine, n in zip(engines, passes, strict=True)]
    assert max(lost) < START_CREDIT + 1.4  # the share of the time, and the draft that exhausts the credit


@DEVICES
@pytest.mark.parametrize("acceptance", [0.1, 0.2, 0.3, 0.4])
def test_no_text_is_slower_than_without_drafts(cost: Callable[[int], float], acceptance: float) -> None:
    engines = [Simulated(cost, seed) for seed in range(4)]
    tokens = sum(engine.reply(1500, lambda source, n: acceptance)[0].tokens for engine in engines)
    assert sum(engine.time for engine in engines) <= 1.015 * tokens * cost(1)


@DEVICES
@pytest.mark.parametrize("acceptance", [0.0, 0.5, 0.7, 0.9])
def test_the_best_number_of_drafts_is_found(cost: Callable[[int], float], acceptance: float) -> None:
    ideal = speeds(acceptance, cost)
    best = ideal.index(max(ideal))
    chosen, speed = list[int](), 0.0
    for seed in range(4):
        engine = Simulated(cost, seed)
        engine.reply(300, lambda source, n: acceptance)
        began = engine.time
        tuner, steps = engine.reply(600, lambda source, n: acceptance)
        chosen += [step.choice.n for step in steps]
        speed += tuner.tokens * cost(1) / (engine.time - began) / 4
    n = round(median(chosen))
    assert abs(n - best) <= 1 or ideal[n] > 0.98 * ideal[best]
    assert speed > 0.93 * ideal[best]


def test_a_few_passes_are_enough() -> None:
    _, steps = Simulated(dense).reply(60, lambda source, n: 1.0)
    assert [step.choice.n for step in steps[:PLAIN_PASSES]] == [0] * PLAIN_PASSES
    assert [step.choice.n for step in steps[PLAIN_PASSES : PLAIN_PASSES + 3]] == [1, 2, 3]
    assert max(step.choice.n for step in steps) >= 6


@DEVICES
@pytest.mark.parametrize(("before", "after"), [(0.9, 0.0), (0.0, 0.9), (0.7, 0.0), (0.0, 0.7)])
def test_text_that_changes_is_noticed(cost: Callable[[int], float], before: float, after: float) -> None:
    ideal = speeds(after, cost)
    delays = []
    for seed in range(5):
        engine = Simulated(cost, seed)
        _, steps = engine.reply(800, lambda source, n: before if n < 400 else after)
        late = [step.choice.n for step in steps if step.tokens >= 400]
        right = [(n > 0) == (max(ideal) > 1) for n in late]
        delays.append(next(n for n in range(len(right)) if sum(right[n : n + 5]) >= 4))
    assert median(delays) <= (25 if after == 0 else 110)
    assert max(delays) <= (45 if after == 0 else 400)


@DEVICES
def test_text_that_changes_all_the_time_still_gains(cost: Callable[[int], float]) -> None:
    gained = []
    for seed in range(12):
        engine = Simulated(cost, seed)
        tuner, _ = engine.reply(2000, lambda source, n: 0.9 if n // 100 % 2 else 0.0)
        gained.append(tuner.tokens * cost(1) / engine.time)
    both = 2 / (1 + 1 / max(speeds(0.9, cost)))
    assert median(gained) > 1 + 0.25 * (both - 1)


def test_a_long_copy_is_taken_and_costs_no_draft_step() -> None:
    engine = Simulated(dense)
    rates: dict[Source, float] = {"mtp": 0.7, "copy": 0.95}
    offers = [Offer("mtp", MOST_DRAFTS), Offer("copy", MOST_DRAFTS, 40)]
    tuner, steps = engine.reply(600, lambda source, n: rates[source], lambda n: offers)
    late = [step.choice for step in steps[len(steps) // 2 :]]
    assert median(choice.n for choice in late) >= 7
    assert sum(choice.source == "copy" for choice in late) > 0.9 * len(late)
    assert tuner.accepted["copy"] > 0.7 * tuner.drafted["copy"]
    assert tuner.tokens / engine.time > 0.9 * max(speeds(0.95, dense, draft=0))


def test_short_copies_that_are_wrong_leave_long_ones_alone() -> None:
    engine = Simulated(dense)

    def matched(done: int) -> int:
        return 2 if done // 50 % 2 else 40

    engine.reply(
        1500,
        lambda source, done: 0.95 if matched(done) == 40 else 0.02,
        lambda done: [Offer("copy", MOST_DRAFTS, matched(done))],
    )
    engine.history._since_plain = 0
    tuner = DraftTuner(engine.history)
    assert tuner.choose([Offer("copy", MOST_DRAFTS, 40)], engine.costs).n >= 6
    tuner = DraftTuner(engine.history)
    tuner._gap = 10  # no trial
    assert tuner.choose([Offer("copy", MOST_DRAFTS, 2)], engine.costs) == Choice(None, 0)


def test_there_are_no_more_drafts_than_offered() -> None:
    engine = Simulated(dense)
    _, steps = engine.reply(200, lambda source, n: 1.0, lambda n: [Offer("mtp", 2)])
    assert max(step.choice.n for step in steps) == 2
    _, steps = engine.reply(50, lambda source, n: 1.0, lambda n: [Offer("mtp", 0), Offer("copy", 0)])
    assert {step.choice for step in steps} == {Choice(None, 0)}
    _, steps = engine.reply(50, lambda source, n: 1.0, lambda n: [])
    assert {step.choice for step in steps} == {Choice(None, 0)}


def test_drafts_end_where_other_replies_fill_the_device() -> None:
    drafts = []
    for others in (0, 3, 15):
        engine = Simulated(full)
        engine.reply(400, lambda source, n: 0.7, others=others)
        _, steps = engine.reply(400, lambda source, n: 0.7, others=others)
        drafts.append(median(step.choice.n for step in steps))
    assert drafts[0] >= 2
    assert drafts[1] > 0
    assert drafts[2] == 0


def test_what_slows_others_has_to_bring_as_much() -> None:
    chosen = []
    for others in (0, 7):
        engine = Simulated(experts, noise=0)
        engine.reply(300, lambda source, n: 0.7, others=others)
        _, steps = engine.reply(300, lambda source, n: 0.7, others=others)
        chosen.append(median(step.choice.n for step in steps))
    assert chosen[0] > 0
    assert chosen[1] == 0  # 8 tokens in 2.6, 8.7 in 3


def test_rows_that_cost_others_nothing_are_drafted() -> None:
    engine = Simulated(full)
    _, steps = engine.reply(800, lambda source, n: 0.95, others=3)
    assert median(step.choice.n for step in steps) >= 2  # 4 tokens in 1, 7.5 in 1.6


@DEVICES
def test_credit_bounds_what_is_lost(cost: Callable[[int], float]) -> None:
    """Whatever is accepted, the costs being known: no more than the first credit and the share of the time."""
    random = np.random.default_rng(1)
    engine = Simulated(cost, noise=0)
    for _ in range(20):
        text = random.choice([0.0, 0.1, 0.3, 0.95], 40)
        engine.reply(200, lambda source, n, text=text: text[n // 5 % 40])
        assert -0.5 < engine.history.credit <= MOST_CREDIT
        assert -0.5 < engine.history.trial_credit <= MOST_CREDIT


def test_passes_that_are_not_chosen_for_count_as_time() -> None:
    found = []
    for seed in range(5):
        engine = Simulated(dense, seed, rest=15)
        _, steps = engine.reply(1200, lambda source, n: 0.0 if n < 600 else 0.9)
        assert sum(step.choice.n > 0 for step in steps if step.tokens < 600) < 30
        found.append(next(step.tokens for step in steps if step.tokens > 600 and step.choice.n > 2) - 600)
    assert median(found) < 150


def test_what_a_pass_without_costs_stays_known() -> None:
    """A cold machine makes the first passes, those without drafts, look dearer than they are."""
    engine = Simulated(lambda rows: (1 + 0.55 * (rows - 1)) * (1.5 if engine.costs.n_passes < 6 else 1))
    engine.reply(1500, lambda source, n: 0.6)
    began = engine.time
    tuner, _ = engine.reply(1000, lambda source, n: 0.6)
    assert engine.time - began < 1.02 * tuner.tokens


def test_a_reply_begins_with_what_others_learnt() -> None:
    for acceptance, drafts in ((0.0, False), (0.9, True)):
        engine = Simulated(dense)
        engine.reply(500, lambda source, n, rate=acceptance: rate)
        engine.history._since_plain = 0
        tuner = DraftTuner(engine.history)
        tuner._gap = 10  # no trial
        assert (tuner.choose([Offer("mtp", 8)], engine.costs).n > 2) == drafts
    assert DraftHistory().credit == START_CREDIT


def test_what_is_reported() -> None:
    engine = Simulated(dense, noise=0)
    tuner, steps = engine.reply(400, lambda source, n: 0.8)
    assert tuner.passes == len(steps)
    assert tuner.tokens == sum(1 + step.accepted for step in steps)
    assert tuner.tokens_per_pass == tuner.tokens / tuner.passes
    assert tuner.drafted == {"mtp": sum(step.choice.n for step in steps), "copy": 0}
    assert tuner.accepted == {"mtp": sum(step.accepted for step in steps), "copy": 0}
    assert tuner.seconds_saved == pytest.approx(0.004 * (tuner.tokens - engine.time), rel=0.05)


def test_fewer_drafts_than_chosen_may_come() -> None:
    engine = Simulated(dense)
    engine.reply(100, lambda source, n: 1.0)
    engine.history._since_plain = 0
    tuner = DraftTuner(engine.history)
    assert tuner.choose([Offer("mtp", 8)], engine.costs).n > 2
    tuner.note(0, 0)
    tuner.choose([Offer("mtp", 8)], engine.costs)
    tuner.note(2, 1)
    assert (tuner.passes, tuner.tokens, tuner.drafted["mtp"], tuner.accepted["mtp"]) == (2, 3, 2, 1)


def test_a_gain_within_the_margin_is_none() -> None:
    def slope(per_row: float) -> list[float]:
        engine = Simulated(lambda rows: 1 + per_row * (rows - 1), noise=0)
        engine.reply(1500, lambda source, n: 0.5, lambda n: [Offer("copy", 1, 40)])
        _, steps = engine.reply(1500, lambda source, n: 0.5, lambda n: [Offer("copy", 1, 40)])
        return [step.choice.n for step in steps]

    assert MARGIN < 0.05
    assert np.mean(slope(0.3)) > 0.7  # 1.5 tokens in 1.3
    assert np.mean(slope(0.6)) < 0.2  # 1.5 tokens in 1.6


def test_acceptance_by_kind() -> None:
    assert [*kinds("mtp", 3, 0)] == [0, 1, 2]
    assert [*kinds("copy", 8, 2)] == [0, 0, 1, 1, 1, 1, 2, 2]
    assert [*kinds("copy", 3, 1000)] == [4, 4, 4]
    assert [*kinds("copy", 3, 30)] == [3, 3, 4]
    of = Acceptance(FIRST_RATES["mtp"], 0.9, 3.0)
    assert of.rates == FIRST_RATES["mtp"]
    for _ in range(60):
        of.note(range(4), 1)
    first, second, third = of.rates[:3]
    assert first > 0.9
    assert second < 0.25
    assert third < 0.5  # never tried, but the one before it is rarer than expected


def test_acceptance_follows_the_text() -> None:
    of = Acceptance(FIRST_RATES["mtp"], REPLY_DECAY, REPLY_WEIGHT)
    for accepted, bounds in ((1, (0.9, 1.0)), (0, (0.0, 0.25)), (1, (0.8, 1.0))):
        for _ in range(20):
            of.note(range(1), accepted)
        assert bounds[0] < of.rates[0] < bounds[1]
