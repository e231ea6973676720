"""What `qwen35 plan` prints."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from qwen35_local.cli.cluster_report import Cluster, show_cluster
from qwen35_local.cli.terminal import printable_line
from qwen35_local.models.drafts import MOST_DRAFTS
from qwen35_local.models.memory import HostMemory, Plan
from qwen35_local.plan import fit
from qwen35_local.plan.subject import Extras, Subject
from qwen35_local.units import counted, file_size, size

PARTS = {
    "weights": "weights",
    "kv": "keys and values",
    "state": "recurrent state",
    "snapshots": "snapshots",
    "vision": "image encoder",
    "mtp": "MTP",
    "drafts": "drafts",
    "scratch": "scratch",
    "program": "program",
}
CHANGES = {
    "draft": "no drafts",
    "kv": "a narrower cache",
    "ctx": "a shorter context",
    "type": "a smaller type",
    "size": "a smaller model",
}


@dataclass(frozen=True)
class Answer:
    """The plans of one question, one per type, and when none of them fits, what would, here and elsewhere."""

    question: fit.Question
    source: str
    extras: Extras
    plans: list[tuple[Subject, Plan]]
    nearest: list[fit.Choice]
    cluster: Cluster | None = None

    @property
    def best(self) -> int | None:
        """The most precise type that fits; without a context that was asked for, that reaches the model's own, or else
        the one that gets furthest."""
        fitting = [n for n, (_, plan) in enumerate(self.plans) if plan.fits]
        if not fitting:
            return None
        wanted = self.plans[0][1].footprint.config.context_tokens
        whole = [n for n in fitting if self.question.context_tokens or self.plans[n][1].context_tokens >= wanted]
        return whole[0] if whole else max(fitting, key=lambda n: self.plans[n][1].context_tokens)


def write_json(answer: Answer, out: TextIO) -> None:
    """One document; sizes in bytes."""
    best = answer.best
    document = {
        "memory_bytes": answer.question.budget,
        "memory_source": answer.source,
        "fits": best is not None,
        "best_type": None if best is None else answer.plans[best][0].type,
        "plans": [facts(subject, plan) for subject, plan in answer.plans],
        "nearest": [
            {
                "change": choice.change,
                "command": fit.command(choice, answer.question, answer.extras),
                **facts(choice.subject, choice.plan),
            }
            for choice in answer.nearest
        ],
        "cluster": None if answer.cluster is None else answer.cluster.facts(),
    }
    out.write(json.dumps(document, indent=2) + "\n")


def facts(subject: Subject, plan: Plan) -> dict[str, Any]:
    footprint = subject.footprint
    return {
        "model": subject.name,
        "type": subject.type,
        "fits": plan.fits,
        "context_tokens": plan.context_tokens,
        "parallel": plan.parallel,
        "kv_tokens": plan.kv_tokens,
        "needs_yarn": plan.needs_yarn,
        "kv": plan.kv,
        "pass_rows": plan.rows,
        "kv_bytes_per_token": footprint.kv_token_bytes(plan.kv),
        "longest_context_tokens": footprint.longest(plan.kv, plan.budget, plan.rows, plan.parallel),
        "file_bytes": footprint.file_bytes,
        "total_bytes": plan.memory.total,
        "parts": asdict(plan.memory),
        "host_parts": None if plan.host is None else asdict(plan.host),
        "weights": [asdict(share) for share in footprint.by_type],
    }


def show(answer: Answer) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    if len(answer.plans) == 1:
        show_parts(console, answer, *answer.plans[0])
    else:
        show_types(console, answer)
    if answer.nearest:
        console.print("\nWhat fits, the nearest first:")
        for choice in answer.nearest:
            line = shlex.join(["qwen35", *fit.command(choice, answer.question, answer.extras)])
            console.print(f"  {CHANGES[choice.change] + ':':<19} {describe(choice)}", markup=False)
            console.print(f"  {'':<19} {printable_line(line)}", markup=False, style="dim", soft_wrap=True)
    if answer.cluster is not None:
        show_cluster(console, answer.cluster)


def show_parts(console: Any, answer: Answer, subject: Subject, plan: Plan) -> None:
    from rich import box
    from rich.table import Table

    footprint = subject.footprint
    console.print(f"{printable_line(subject.name)} · {subject.type} · {context(plan)}", markup=False, style="bold")
    notes = {
        "weights": f"{file_size(footprint.file_bytes)} in the file",
        "kv": f"{footprint.kv_token_bytes(plan.kv):,} bytes per token"
        + (f", {plan.kv_tokens:,} tokens in all" if plan.parallel > 1 else ""),
        "state": "of one sequence, at any length" if plan.parallel == 1 else f"of {plan.parallel} sequences",
        "snapshots": "to go back to: as many as there is room for, 1 GiB at most"
        if plan.host is None
        else "on their way to the host, and replies side by side: what there is room for, 1 GiB at most",
        "vision": "as F16" if plan.memory.vision else "--vision counts it",
        "mtp": mtp_note(subject, plan),
        "drafts": drafts_note(subject, plan),
        "scratch": f"for {plan.rows:,} tokens of a prompt at a time",
        "program": "interpreter, libraries, tokenizer"
        if footprint.of_device.uses_host_memory
        else "the driver's context, kernels and graphs: an estimate",
    }
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_footer=False, pad_edge=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    for part, n_bytes in asdict(plan.memory).items():
        table.add_row(PARTS[part], size(n_bytes) if n_bytes else "none", notes[part])
        if part == "weights":
            for share in footprint.by_type:
                table.add_row(f"  {share.dtype}", size(share.n_bytes), counted(share.tensors, "tensor"), style="dim")
    table.add_section()
    table.add_row("together", size(plan.memory.total), verdict(plan, answer.source), style="bold")
    console.print(table)
    if plan.host is not None:
        show_host(console, plan.host)
    if plan.fits:
        longest = footprint.longest(plan.kv, plan.budget, plan.rows, plan.parallel)
        if longest > plan.context_tokens:
            console.print(f"Up to {longest:,} tokens would fit.")
    if plan.needs_yarn:
        trained = footprint.config.context_tokens
        console.print(f"Beyond {trained:,} tokens YaRN stretches the positions; short texts lose a little by it.")


def show_host(console: Any, host: HostMemory) -> None:
    from rich import box
    from rich.table import Table

    notes = {
        "snapshots": "recurrent states, and pages that only they hold",
        "scratch": "rows of logits, and what is on its way to the card",
        "program": "interpreter, libraries, tokenizer",
    }
    table = Table(title="In the host's memory", title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
    table.pad_edge = False
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    for part, n_bytes in asdict(host).items():
        table.add_row(PARTS[part], size(n_bytes) if n_bytes else "none", notes[part])
    table.add_section()
    table.add_row("together", size(host.total), "", style="bold")
    console.print(table)


def mtp_note(subject: Subject, plan: Plan) -> str:
    if plan.memory.mtp:
        return "the block that drafts; --draft off leaves it in the file"
    if subject.footprint.config.mtp_layers:
        return "left in the file: --draft off"
    return "not in the file" if subject.is_file else "as a file without it: --no-mtp"


def drafts_note(subject: Subject, plan: Plan) -> str:
    if plan.memory.drafts:
        return (
            "its keys, values and states" if plan.memory.mtp else "states that can be taken back, without --draft off"
        )
    drafting = subject.with_drafts(MOST_DRAFTS).footprint
    others = (plan.kv_tokens - plan.context_tokens) // max(plan.parallel - 1, 1)
    memory = drafting.memory(
        plan.context_tokens, plan.kv, plan.rows, budget=plan.budget, parallel=plan.parallel, others_tokens=others
    )
    return f"--draft auto takes {size(memory.mtp + memory.drafts)}"


def show_types(console: Any, answer: Answer) -> None:
    from rich import box
    from rich.table import Table

    subject, plan = answer.plans[0]
    asked = "" if answer.question.context_tokens is None else f" · {plan.context_tokens:,} tokens"
    room = f" in {size(plan.budget)} ({answer.source})"
    console.print(f"{printable_line(subject.name)}{asked}{room}", markup=False, style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("type", "file", "weights", "longest context" if not asked else "context", "KV", "together", ""):
        table.add_column(label, justify="left" if label in ("type", "KV", "") else "right")
    best = answer.best
    for n, (subject, plan) in enumerate(answer.plans):
        beyond = " (YaRN)" if plan.needs_yarn else ""
        table.add_row(
            subject.type,
            file_size(subject.footprint.file_bytes),
            size(plan.memory.weights),
            f"{plan.context_tokens:,}{beyond}" if plan.fits or asked else "none",
            plan.kv,
            size(plan.memory.total),
            ("fits, the most precise that does" if n == best else "fits") if plan.fits else too_much(plan),
            style="bold" if n == best else "" if plan.fits else "dim",
        )
    console.print(table)


def describe(choice: fit.Choice) -> str:
    plan, name = choice.plan, printable_line(choice.subject.name)
    return f"{name} · {choice.subject.type} · {context(plan)} · {size(plan.memory.total)}"


def context(plan: Plan) -> str:
    return f"{plan.context_tokens:,} tokens, keys and values in {plan.kv}"


def verdict(plan: Plan, source: str) -> str:
    room = f"of {size(plan.budget)} ({source}): "
    return room + (f"fits, {size(plan.budget - plan.memory.total)} left" if plan.fits else too_much(plan))


def too_much(plan: Plan) -> str:
    return f"{size(plan.memory.total - plan.budget)} too much"
