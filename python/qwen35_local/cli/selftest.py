"""`qwen35 selftest`: random conversations, each answer held against a cold run."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from qwen35_local.cli.argument import ModelOrDemo
from qwen35_local.cli.options import Device, Kv, Threads, count

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.engine.selftest import Tally


def selftest(
    model: ModelOrDemo = None,
    scenarios: Annotated[int, count("--scenarios", "-n", low=1, help="Random conversations.")] = 20,
    seed: Annotated[int, count(help="Of the first one; each has the next.")] = 0,
    kv: Annotated[Kv | None, typer.Option(help="Format of keys and values; unset: all by turns.")] = None,
    ctx: Annotated[int, count(help="Context in tokens; 0: the model's own.")] = 0,
    threads: Threads = 0,
    device: Device = "auto",
) -> None:
    """Checks on this machine that no reuse and no company changes an answer: random conversations with edits, branches,
    retries, interruptions, evictions and restarts, where every reply's logits must have the bits of a cold run; and, a
    quarter as often, many replies at once, which must have the tokens and logprobs of lone runs. Exit code 1 at the
    first that has not."""
    from qwen35_local import _core
    from qwen35_local.cli.model import check_device, model_path, open_file, say_if_read
    from qwen35_local.cli.terminal import notice
    from qwen35_local.engine.selftest import Mismatch
    from qwen35_local.errors import InputError, naming
    from qwen35_local.models.drafts import MOST_DRAFTS
    from qwen35_local.units import counted

    check_device(device)
    path = model_path(model)
    file = open_file(path)
    models = [_core.Model(file, device=device, context_tokens=ctx, threads=threads, drafts=MOST_DRAFTS)]
    say_if_read(path, models[0])
    if models[0].threads > 1 and models[0].device.startswith("cpu"):  # a card computes without them
        models.append(_core.Model(file, device=device, context_tokens=ctx, threads=1, drafts=MOST_DRAFTS))
    crowds = (scenarios + 3) // 4
    try:
        with naming(path):
            total, together = checked(models, scenarios, crowds, seed, kv)
    except Mismatch as failure:
        notice(
            f"qwen35: {failure}\nTo see it again: qwen35 selftest {model or ''} --scenarios 1 --seed {failure.seed}"
            + (f" --kv {kv}" if kv else "")
            + (f" --device {device}" if device != "auto" else "")
        )
        sys.exit(1)
    if not total.replies + together.replies:
        raise InputError(
            f"nothing was checked: no reply fits into a context of {models[0].context_tokens} tokens; give a longer "
            "--ctx"
        )
    typer.echo(
        f"{counted(scenarios, 'conversation')}, {total.replies:,} replies with the bits of a cold run; "
        f"{total.reused_tokens:,} tokens reused, {total.evaluated_tokens:,} evaluated "
        f"on {models[0].device} (seeds {seed} to {seed + scenarios - 1})\n"
        f"{together.replies:,} replies written several at once, with the tokens and logprobs of lone runs "
        f"(seeds {seed} to {seed + crowds - 1})"
    )


def checked(
    models: "list[_core.Model]", scenarios: int, crowds: int, seed: int, kv: Kv | None
) -> "tuple[Tally, Tally]":
    """What random conversations came to, and replies at once. Raises Mismatch."""
    from qwen35_local.cli.progress import bar
    from qwen35_local.engine import selftest_crowd
    from qwen35_local.engine.selftest import Tally, run

    total, together = Tally(), Tally()
    with bar("checking", "conversations") as progress:
        progress(0, scenarios + crowds)
        for done, tally in enumerate(run(models, scenarios, seed, kv=kv), 1):
            total += tally
            progress(done, scenarios + crowds)
        for done, tally in enumerate(selftest_crowd.run(models, crowds, seed, kv=kv), scenarios + 1):
            together += tally
            progress(done, scenarios + crowds)
    return total, together
