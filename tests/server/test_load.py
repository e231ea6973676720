"""`qwen35 serve` as a program under load, each run of `python -m tests.load` in small."""

import asyncio
import sys
from collections.abc import Iterator

import pytest

from tests.load.codewords import codewords, talks
from tests.load.leaving import leaving
from tests.load.mixed import Key, Plan, expectations, mixed
from tests.load.program import Program, serving
from tests.load.refusals import all_cases, refusals
from tests.load.slow import slow
from tests.load.steady import steady

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and times what a busy machine delays")
PARALLEL = 4


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with serving("--parallel", str(PARALLEL), "--queue", "16", "--cache", "0.05", "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def expected() -> dict[Key, str]:
    return expectations(12)


def test_every_request_has_one_end_and_the_answer_of_a_lone_run(program: Program, expected: dict[Key, str]) -> None:
    report = asyncio.run(mixed(program, Plan(expected, requests=120, clients=24, leaving=0.2)))
    assert report.faults == []
    assert report.counts["sent"] == 120
    assert report.counts["left"] > 5
    assert report.counts["finished"] > 20


def test_conversations_hear_their_own_code(program: Program) -> None:
    told = talks(12)
    report = asyncio.run(codewords(program, told, clients=6))
    assert report.faults == []
    assert report.counts["with their own code"] >= 11  # the model is right in 98 of 100
    assert report.counts["compared with a lone run"] == 12


def test_who_leaves_gives_the_place_back(program: Program) -> None:
    report = asyncio.run(leaving(program, 1, PARALLEL))
    assert report.counts["left"] == PARALLEL


def test_who_is_slow_holds_up_nobody(program: Program) -> None:
    report = asyncio.run(slow(program, 12, 3))
    assert report.counts["answered"] + report.counts["refused"] == 12
    assert not [fault for fault in report.faults if "250 ms" not in fault]


def test_what_is_wrong_disturbs_nobody(program: Program, expected: dict[Key, str]) -> None:
    report = asyncio.run(refusals(program, all_cases()[::8], expected, 3))
    assert report.faults == []
    assert report.counts["refused"] > 100


def test_small_requests_leave_nothing(program: Program) -> None:
    assert asyncio.run(steady(program, 600, 8, seconds=60)).faults == []
