"""`qwen35 bench --draft`: what drafts gain (`engine.draft_bench`)."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from qwen35_local.cli.bench_report import Columns, Row

if TYPE_CHECKING:
    from qwen35_local.cli.bench import LoadedModel, Settings
    from qwen35_local.cli.bench_report import Report
    from qwen35_local.engine.draft_bench import DraftBench, PassRatios
    from qwen35_local.engine.draft_cases import DraftCase, Gain, Turn
    from qwen35_local.engine.machine import Machine
    from qwen35_local.models.kv import KvFormat


def plan(text: str, n_gen: int, depths: list[int], formats: "list[KvFormat]", batches: list[int]) -> "list[DraftCase]":
    """Batches of 0 are left out. Raises InputError."""
    from qwen35_local.engine import draft_cases

    side_by_side = [batch for batch in batches if batch] or [1]
    return draft_cases.plan([word.strip() for word in text.split(",")], n_gen, depths, formats, side_by_side)


def check(cases: "list[DraftCase]", synthetic: list[str] | None, against: str | None, profiles: bool) -> None:
    """Raises InputError."""
    from qwen35_local.errors import InputError

    if against is not None or profiles:
        raise InputError("--draft compares with itself; leave --against and --profile out")
    if synthetic and any(case.kind == "skill" for case in cases):
        raise InputError("--draft skills needs a model that can talk, and a synthetic one has no tokenizer")


def measure(subject: "LoadedModel", settings: "Settings", machine: "Machine", report: "Report") -> None:
    """All cases of one model, row by row."""
    from qwen35_local.cli.bench import describe
    from qwen35_local.cli.progress import bar
    from qwen35_local.engine.draft_bench import DraftBench
    from qwen35_local.engine.draft_cases import gain

    assert subject.for_drafts is not None
    bench = DraftBench(subject.model, subject.for_drafts)
    bench.check(settings.drafts)
    facts = describe(subject)
    report.model(facts)
    ratios: dict[tuple[KvFormat, int], PassRatios] = {}
    for case in settings.drafts:
        with bar(f"evaluating the context of {case.name}", "tok") as progress:
            bench.prepare(case, progress)
        place = case.kv, case.prompt_tokens
        if place not in ratios:
            ratios[place] = bench.pass_ratios()
            report.note(passes(ratios[place]))
        found = gain(*turns(bench, case, settings.repetitions))
        report.row(facts["model"], facts["type"], row(case, settings, machine, found, ratios[place]))
    report.end_model(0)  # of a model that is loaded twice it would say little


def turns(bench: "DraftBench", case: "DraftCase", repetitions: int) -> "tuple[Turn, list[Turn]]":
    """The first one, and those that count."""
    from qwen35_local.cli.progress import bar

    with bar(case.name, "turns") as progress:
        first, found = bench.turn(), []
        for done in range(repetitions):
            progress(done, repetitions)
            found.append(bench.turn())
        progress(repetitions, repetitions)
    return first, found


def row(case: "DraftCase", settings: "Settings", machine: "Machine", gain: "Gain", ratios: "PassRatios") -> Row:
    """What one line of the report says, by the names of the JSON."""
    return {
        "test": case.kind,
        "name": case.name,
        "n_prompt": case.prompt_tokens if case.kind != "skill" else None,
        "n_gen": case.n_gen if case.kind != "skill" else None,
        "batch": case.batch,
        "depth": case.depth,
        "kv": case.kv,
        "acceptance": case.acceptance,
        "skill": case.skill,
        "temperature": case.temperature,
        "threads": machine.threads,
        "repetitions": settings.repetitions,
        **asdict(gain),
        **asdict(ratios),
    }


def gain_cells(row: Row) -> list[str]:
    share = row["accepted_share"]
    return [
        row["name"],
        f"{row['tokens_per_s']:.2f}",
        f"{row['off_tokens_per_s']:.2f}",
        f"{row['ratio']:.2f} x",
        f"{100 * row['spread']:.1f} %",
        f"{row['off_ratio']:.2f} x",
        f"{100 * row['off_spread']:.1f} %",
        f"{row['tokens_per_pass']:.2f}",
        "none" if share is None else f"{100 * share:.0f} %",
        f"first reply {row['first_ratio']:.2f} x",
    ]


GAIN = Columns(
    ("tokens/s", "off", "ratio", "spread", "off/off", "spread", "a pass", "accepted"),
    (10, 10, 9, 9, 9, 9, 8, 10),
    gain_cells,
)


def passes(ratios: "PassRatios") -> str:
    step = f", a draft step {ratios.draft_step:.2f}" if ratios.draft_step is not None else ""
    return (
        f"passes of 2, 4, 8 rows: {ratios.pass_of_2:.2f}, {ratios.pass_of_4:.2f}, {ratios.pass_of_8:.2f} x one row"
        f"{step}; ready for drafts, one row: {ratios.ready_for_drafts:.2f} x"
    )
