"""`qwen35 plan`: will it fit, before anything is downloaded."""

import sys
from typing import Annotated

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.cli.options import Device, Draft, KvOrAuto, Memory, count


def plan(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help=f"{MODEL_HELP}. Of a GGUF the header is enough.", show_default=False),
    ],
    type: Annotated[
        str | None, typer.Option("--type", help="As in quantize. Unset: every type.", show_default=False)
    ] = None,
    memory: Memory = None,
    ctx: Annotated[
        str | None,
        typer.Option(metavar="TOKENS", help="262144, 256k, 1M. Unset: the longest that fits.", show_default=False),
    ] = None,
    kv: KvOrAuto = "auto",
    parallel: Annotated[int, count(low=1, high=256, help="Conversations side by side, as in serve.")] = 1,
    device: Device = "auto",
    vision: Annotated[bool, typer.Option("--vision", help="With the image encoder.")] = False,
    draft: Draft = "auto",
    mtp: Annotated[
        bool | None,
        typer.Option("--mtp/--no-mtp", help="The block that drafts. Unset: as the checkpoint or the file has it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """What a model takes in memory, part by part and together. Exit code 0 when it fits, 3 when not."""
    from qwen35_local import _core
    from qwen35_local.cli.cluster_report import cluster_for
    from qwen35_local.cli.model import find
    from qwen35_local.cli.plan_report import Answer, show, write_json
    from qwen35_local.cli.subjects import subjects_of
    from qwen35_local.cli.terminal import notice
    from qwen35_local.models.drafts import most_drafts
    from qwen35_local.plan import fit
    from qwen35_local.plan.subject import Extras
    from qwen35_local.units import parse_tokens

    budget, source = budget_of(memory, device)
    tokens = parse_tokens("--ctx", ctx) if ctx is not None else None
    question = fit.Question(budget, tokens, kv, parallel=parallel)
    extras = Extras(vision, mtp, most_drafts(draft), _core.usable_threads(), device)
    subjects = subjects_of(find(model, type), model, type, extras)
    first = subjects[0]
    for text in first.notices:
        notice(text)
    plans = [question.plan(subject) for subject in subjects]
    fits = any(found.fits for found in plans)
    choices = [] if fits else fit.nearest(subjects[-1], question, extras, first.type if not first.is_file else "")
    beyond = None if fits else cluster_for(question, first, plans[0])
    answer = Answer(question, source, extras, list(zip(subjects, plans, strict=True)), choices, beyond)
    if as_json:
        write_json(answer, sys.stdout)
    else:
        show(answer)
    if not fits:
        raise typer.Exit(3)


def budget_of(memory: str | None, device: str) -> tuple[int, str]:
    """Bytes, and what sets them. Raises InputError."""
    from qwen35_local.engine import machine
    from qwen35_local.errors import InputError
    from qwen35_local.units import parse_bytes

    if memory is not None:
        return parse_bytes("--memory", memory), "--memory"
    found = machine.memory_budget(device)
    if found is None:
        raise InputError("nothing here tells how much memory is free; give --memory, as in --memory 16G")
    return found
