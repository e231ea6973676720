"""Many clients of all dialects, some of whom leave: each request has one end, each answer is that of a lone run."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from qwen35_local import Model

from tests.load.dialects import DIALECTS, Question, alone
from tests.load.program import Program
from tests.load.report import Report
from tests.load.wire import Answer, Connection

ASKED = (
    "What is the capital of {}?",
    "My name is {}. Hello!",
    "Repeat: {}",
    "Tell me a short story about {}.",
    "Spell {}.",
)
ABOUT = ("Italy", "Ann", "a red lamp", "Norway", "seven birds", "Bob", "the sea", "Rome", "table", "snow")
LONGEST_STAY = 0.4  # seconds, of those who leave
Key = tuple[Question, bool]


@dataclass
class Plan:
    """What is asked, by messages (True) or by one prompt, and what a lone run answers."""

    expected: Mapping[Key, str]
    requests: int
    clients: int
    leaving: float
    seed: int = 1

    keys: list[Key] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = list(self.expected)


def expectations(n: int) -> dict[Key, str]:
    """Of n requests, no two alike."""
    random = Random(7)
    found: dict[Key, str] = {}
    with Model.from_file(context_tokens=1024, threads=1) as model:
        while len(found) < n:
            text = random.choice(ASKED).format(random.choice(ABOUT))
            question = Question((text,), random.randrange(1000), random.choice((4, 12, 24, 48)))
            is_chat = random.random() < 0.8
            found[question, is_chat] = alone(model, question, is_chat=is_chat)
    return found


async def mixed(program: Program, plan: Plan) -> Report:
    report, ids = Report(), set[str]()
    before = await program.metrics()
    numbers = iter(range(plan.requests))
    await asyncio.gather(*(_client(program, plan, numbers, report, ids) for _ in range(plan.clients)))
    after = await _at_rest(program, report)
    _balance(report, before, after)
    return report


async def _client(program: Program, plan: Plan, numbers: Iterator[int], report: Report, ids: set[str]) -> None:
    async with Connection(program.port) as connection:
        for number in numbers:
            random = Random(plan.seed * 1_000_003 + number)
            question, is_chat = random.choice(plan.keys)
            name = random.choice(("chat", "responses", "anthropic", "ollama")) if is_chat else "completions"
            streams = random.random() < 0.5
            leave_after = random.random() ** 2 * LONGEST_STAY if random.random() < plan.leaving else None
            report.counts["sent"] += 1
            dialect = DIALECTS[name]
            answer = await connection.post(dialect.path, dialect.body(question, streams), leave_after)
            _note(report, answer, left=leave_after is not None)
            if answer.status == 429:
                await asyncio.sleep(random.random())
            if answer.is_whole and answer.status == 200:
                text, identifier = dialect.read(answer.body, streams)
                wanted = plan.expected[question, is_chat]
                report.expect(text == wanted, f"{name}, {question}: {text!r}, alone {wanted!r}")
                report.expect(not identifier or identifier not in ids, f"{name}: {identifier} was told twice")
                ids.add(identifier)


def _note(report: Report, answer: Answer, *, left: bool) -> None:
    if not answer.is_whole:
        report.counts["left"] += 1
        report.expect(left, f"an answer with status {answer.status} broke off: {answer.body[-100:]!r}")
    elif answer.status == 429:
        report.counts["refused"] += 1
        report.expect("retry-after" in answer.headers, "429 without Retry-After")
    else:
        report.counts["finished"] += 1
        report.expect(answer.status == 200, f"{answer.status}: {answer.body[:200]!r}")


async def _at_rest(program: Program, report: Report) -> dict[str, float]:
    """What the server counts once it has nothing to do."""
    for _ in range(200):
        found = await program.metrics()
        if not any(found[name] for name in ("requests_running", "slots_busy", "replies_waiting")):
            return found
        await asyncio.sleep(0.05)
    report.faults.append(f"the server does not come to rest: {found}")
    return found


def _balance(report: Report, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """Every request has one end, at the server too."""

    def grown(start: str) -> int:
        return int(sum(value - before.get(name, 0) for name, value in after.items() if name.startswith(start)))

    counts = report.counts
    asked = grown("requests_total") - grown('requests_total{status="200"') - grown('requests_total{status="0"')
    finished, left = grown("replies_total"), grown("disconnects_total")
    report.figures["at the server"] = f"finished {finished:,}, refused {asked:,}, left {left:,}"
    report.expect(asked >= counts["refused"], f"the server refused {asked}, clients know of {counts['refused']}")
    total = finished + asked + left
    report.expect(total == counts["sent"], f"sent {counts['sent']}, of which the server counts {total}")
    report.expect(finished >= counts["finished"], f"the server finished {finished}, clients have {counts['finished']}")
    report.expect(grown('requests_total{status="5') == 0, "a 5xx")
    total = counts["finished"] + counts["refused"] + counts["left"]
    report.expect(total == counts["sent"], f"sent {counts['sent']}, of which clients saw the end of {total}")
