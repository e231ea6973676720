"""What passes and draft steps cost is learnt from noisy measurements on a machine that others use too."""

import itertools

import numpy as np
import pytest

from qwen35_local.engine.draft_costs import DRAFT_STEP, FORGOTTEN_AFTER, PASS_ROW, PassCosts, rising

CHEAP = [0.0, *(1 + 0.05 * (rows - 1) for rows in range(1, 10))]  # in ms, by rows
STEPS = [0.0, 1.0, 1.02, 1.04, 1.05, 1.7, 1.72, 1.75, 1.8, 2.9]


def measured(costs: PassCosts, rows: list[int], by_rows: list[float], random: np.random.Generator) -> None:
    """Passes of a machine on which one in twenty takes ten times as long."""
    for n in rows:
        stall = 10 if random.random() < 0.05 else 1
        costs.note_pass(n, 1e-3 * by_rows[n] * float(random.lognormal(0, 0.05)) * stall)


def test_before_anything_was_measured() -> None:
    costs = PassCosts()
    assert costs.pass_seconds(1) == 1
    assert costs.pass_seconds(5) == pytest.approx(1 + 4 * PASS_ROW)
    assert costs.draft_seconds(3) == pytest.approx(3 * DRAFT_STEP)
    assert costs.draft_seconds(0) == 0


def test_one_measurement_is_the_scale_of_what_was_not_measured() -> None:
    costs = PassCosts()
    costs.note_pass(1, 0.02)
    assert costs.pass_seconds(1) == pytest.approx(0.02)
    assert costs.pass_seconds(3) == pytest.approx(0.02 * (1 + 2 * PASS_ROW))
    assert costs.draft_seconds(2) == pytest.approx(0.02 * 2 * DRAFT_STEP)
    costs.note_draft(2, 0.01)
    assert costs.draft_seconds(2) == pytest.approx(0.01)
    assert costs.draft_seconds(4) == pytest.approx(0.02)


@pytest.mark.parametrize("by_rows", [CHEAP, STEPS])
def test_each_number_of_rows_is_learnt_among_outliers(by_rows: list[float]) -> None:
    random = np.random.default_rng(1)
    costs = PassCosts()
    measured(costs, [1] * 5 + random.integers(1, 10, 400).tolist(), by_rows, random)
    seconds = np.array(costs.each_pass(1, 9))
    ratios = seconds / seconds[0]
    assert np.abs(ratios / (np.array(by_rows[1:]) / by_rows[1]) - 1).max() < 0.1
    assert seconds[0] == pytest.approx(1e-3, rel=0.1)
    assert all(a <= b for a, b in itertools.pairwise(seconds))
    assert [costs.pass_seconds(n) for n in range(1, 10)] == seconds.tolist()


def test_a_new_number_of_rows_is_known_after_a_few_passes_and_moves_no_other() -> None:
    costs = PassCosts()
    for _ in range(5):
        costs.note_pass(1, 1e-3)
    for _ in range(4):
        costs.note_pass(9, 2.9e-3)
    assert costs.pass_seconds(9) == pytest.approx(2.9e-3, rel=0.02)
    assert costs.pass_seconds(1) == pytest.approx(1e-3, rel=0.02)


def test_what_was_not_measured_lies_between_its_neighbours() -> None:
    costs = PassCosts()
    for _ in range(8):
        costs.note_pass(2, 1e-3)
        costs.note_pass(6, 2e-3)
    assert costs.pass_seconds(3) == pytest.approx(1.25e-3, rel=0.02)
    assert costs.pass_seconds(1) < costs.pass_seconds(2)
    assert costs.pass_seconds(7) > costs.pass_seconds(6)


def test_a_machine_that_becomes_slower_is_slower_for_every_number_of_rows() -> None:
    costs = PassCosts()
    for rows in [1, 5] * 100:
        costs.note_pass(rows, 1e-3 * CHEAP[rows])
    for _ in range(8):
        costs.note_pass(1, 2e-3)
    assert costs.pass_seconds(1) == pytest.approx(2e-3, rel=0.1)
    assert costs.pass_seconds(5) == pytest.approx(2e-3 * CHEAP[5], rel=0.15)


def test_one_outlier_is_nothing() -> None:
    costs = PassCosts()
    for rows in [1, 2, 3] * 30:
        costs.note_pass(rows, 1e-3 * CHEAP[rows])
    before = costs.each_pass(1, 9)
    costs.note_pass(2, 1.0)
    assert costs.each_pass(1, 9) == pytest.approx(before, rel=0.03)


def test_outliers_that_nobody_would_look_after_are_forgotten() -> None:
    costs = PassCosts()
    costs.note_pass(1, 1e-3)
    for _ in range(3):
        costs.note_pass(2, 1.0)
    assert costs.pass_seconds(2) == pytest.approx(1.0, rel=0.01)
    for _ in range(2 * FORGOTTEN_AFTER):
        costs.note_pass(1, 1e-3)
    assert costs.pass_seconds(2) == pytest.approx(1e-3 * (1 + PASS_ROW), rel=0.01)


def test_the_first_of_a_number_of_rows_are_their_median() -> None:
    for first in itertools.permutations([1.4e-3, 2.9e-3, 9e-3]):
        costs = PassCosts()
        for _ in range(5):
            costs.note_pass(1, 1e-3)
        for seconds in first:
            costs.note_pass(9, seconds)
        assert costs.pass_seconds(9) == pytest.approx(2.9e-3, rel=1e-6)


def test_what_is_seldom_measured_is_learnt_quickly() -> None:
    """The weight of what was measured fades with every measurement of anything."""
    found = []
    for between in (3, 150):
        costs = PassCosts()
        for _ in range(60):
            costs.note_pass(1, 1e-3)
            costs.note_pass(4, 1.15e-3)
        for _ in range(4):
            for _ in range(between):
                costs.note_pass(1, 1e-3)
            costs.note_pass(4, 2e-3)
        found.append(costs.pass_seconds(4))
    seldom, often = found[1], found[0]
    assert often < 1.4e-3, "many say otherwise"
    assert seldom > 1.7e-3


def test_what_is_not_seen_is_part_of_any_drafts() -> None:
    costs = PassCosts(0.5)
    assert costs.each_draft(2) == pytest.approx([0.5, 0.5 + DRAFT_STEP, 0.5 + 2 * DRAFT_STEP])
    costs.note_draft(2, 0.4)
    assert costs.each_draft(2) == pytest.approx([0.5, 0.7, 0.9])
    assert costs.draft_seconds(0) == 0.5


def test_many_rows_share_a_measurement_with_their_neighbours() -> None:
    costs = PassCosts()
    for rows in [*range(1, 100)] * 6:
        costs.note_pass(rows, 1e-3 * (1 + 0.1 * rows))
    for rows in (1, 16, 17, 33, 50, 90):
        assert costs.pass_seconds(rows) == pytest.approx(1e-3 * (1 + 0.1 * rows), rel=0.12)


def test_no_time_and_no_rows_say_nothing() -> None:
    costs = PassCosts()
    costs.note_pass(1, 0.0)
    costs.note_pass(0, 1.0)
    costs.note_draft(0, 1.0)
    assert costs.pass_seconds(1) == 1
    assert costs.draft_seconds(1) == DRAFT_STEP


def test_values_that_fall_become_their_mean() -> None:
    assert rising([1, 2, 3], [1, 1, 1]) == [1, 2, 3]
    assert rising([1, 4, 2, 3], [1, 1, 3, 1]) == [1, 2.5, 2.5, 3]
    assert rising([3, 2, 1], [1, 1, 1]) == [2, 2, 2]
    assert rising([], []) == []
