"""What is asked for of each reply: how many drafts, of which source, and when none are thought of."""

from collections.abc import Sequence
from typing import Any

import pytest

from qwen35_local.engine import drafting
from qwen35_local.engine.copy_lookup import Copied
from qwen35_local.engine.draft_costs import DRAFT_STEP, PASS_ROW
from qwen35_local.engine.draft_tuner import PLAIN_PASSES
from qwen35_local.engine.drafting import LONGEST_REST, UNSEEN_SECONDS, Drafting


class Model:
    """Its block drafts token 7, at most `n_drafted` times."""

    drafts = 8

    def __init__(self, pass_rows: int = 64, mtp_layers: int = 1, n_drafted: int = 8) -> None:
        self.pass_rows = pass_rows
        self.config = {"mtp_layers": mtp_layers}
        self.asked: list[tuple[int, float]] = []  # how many, and how likely they have to be
        self._n_drafted = n_drafted

    def draft(self, items: Sequence[Any]) -> list[list[tuple[int, float]]]:
        self.asked += [(n, least) for _, _, n, _, least in items]
        return [[(7, 0.9)] * min(n, self._n_drafted) for _, _, n, _, _ in items]


class Line:
    """One that copies as many tokens as there are to copy."""

    tuner = sequence = mask = None

    def __init__(self, room: int = 8, copies: int = 0, pending: int = 1) -> None:
        self.room = room
        self.pending = [1] * pending
        self.looked_up: list[int] = []
        self.drafts: list[int] = []
        self.source: str | None = None
        self.gave_up = False
        self._copies = copies

    @property
    def lookup(self) -> "Line":
        return self

    def draft(self, n: int) -> Copied:
        self.looked_up.append(n)
        n = min(n, self._copies)
        return Copied([5] * n, 40 if n else 0)

    def put(self, drafts: Sequence[int], source: str | None = None, *, gave_up: bool = False) -> None:
        self.drafts, self.source, self.gave_up = list(drafts), source, gave_up


def propose(drafting: Drafting, model: Model, lines: Sequence[Line], spare_rows: int = 1000) -> list[int]:
    drafting.propose(model, lines, spare_rows)  # type: ignore[arg-type]
    return [len(line.drafts) for line in lines]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at it a millisecond goes by."""
    seconds = [0.0]

    def monotonic() -> float:
        seconds[0] += 1e-3
        return seconds[0]

    monkeypatch.setattr(drafting.time, "monotonic", monotonic)


@pytest.mark.parametrize(
    ("spare_rows", "pass_rows", "drafts"),
    [
        (1000, 64, [4, 4, 4]),
        (6, 64, [2, 2, 2]),
        (7, 64, [2, 2, 3]),
        (2, 64, [0, 1, 1]),
        (0, 64, [0, 0, 0]),
        (1000, 8, [1, 2, 2]),
        (1000, 3, [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("copies", [8, 0])
def test_all_share_the_rows_that_are_spare(spare_rows: int, pass_rows: int, drafts: list[int], copies: int) -> None:
    """Those of keys and values, and those of a pass beside the rows that it has in any case."""
    lines = [Line(copies=copies) for _ in range(3)]
    assert propose(Drafting(4), Model(pass_rows), lines, spare_rows) == drafts
    assert {line.source for line in lines if line.drafts} <= {"copy" if copies else "mtp"}


@pytest.mark.parametrize("copies", [8, 0])
def test_no_more_than_there_is_room_for(copies: int) -> None:
    lines = [Line(room, copies) for room in (0, 1, 3, 8)]
    assert propose(Drafting(8), Model(), lines) == [0, 1, 3, 8]
    assert [line.looked_up for line in lines] == [[0], [1], [3], [8]]


def test_the_block_drafts_behind_one_token_that_is_known() -> None:
    """Of what it has not read it has no hidden row."""
    model, lines = Model(), [Line(pending=2), Line(), Line(pending=2, copies=3)]
    assert propose(Drafting(2), model, lines) == [0, 2, 2]
    assert [n for n, _ in model.asked] == [2]
    model = Model(mtp_layers=0)
    assert propose(Drafting(2), model, [Line()]) == [0] and not model.asked


def test_a_block_that_gives_up_is_told() -> None:
    full, short, line = Model(), Model(n_drafted=1), Line()
    assert propose(Drafting(3), full, [line]) == [3] and not line.gave_up
    assert propose(Drafting(3), short, [line]) == [1] and line.gave_up


def test_how_likely_a_draft_has_to_be() -> None:
    """Worth its time by the rate without drafts; a number that was asked for is drafted whatever it is worth."""
    fixed, model = Drafting(2), Model()
    propose(fixed, model, [Line()])
    assert model.asked == [(2, 0.0)]
    auto, model, line = Drafting(), Model(), Line()
    for _ in range(PLAIN_PASSES):
        assert propose(auto, model, [line]) == [0]
        line.tuner.note(0, 0)  # type: ignore[attr-defined]
        auto.took([line], 1, 1.0)  # type: ignore[list-item]
    propose(auto, model, [line])
    assert [least for _, least in model.asked] == [pytest.approx(PASS_ROW + DRAFT_STEP + UNSEEN_SECONDS)]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("pass_seconds", "rest"), [(1e-3, 10), (1e-5, LONGEST_REST), (1.0, 0)])
def test_thinking_of_drafts_that_are_none_takes_a_share_of_the_time(pass_seconds: float, rest: int) -> None:
    """A tenth of the millisecond that it took is what it is known to take; passes are then left alone."""
    auto, model, line = Drafting(), Model(mtp_layers=0), Line()
    auto.took([line], 1, pass_seconds)  # type: ignore[list-item]
    propose(auto, model, [line])
    costs = auto._costs_of([line])  # type: ignore[list-item]
    for n in range(rest):
        assert len(line.looked_up) == 1, n
        auto.took([line], 1, pass_seconds)  # type: ignore[list-item]
        propose(auto, model, [line])
    assert costs.n_passes == 1 + rest // 4, "the other passes are not measured"
    propose(auto, model, [line])
    assert len(line.looked_up) == 2
