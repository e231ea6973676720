"""`qwen35 quantize`: a checkpoint folder in, a GGUF out."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.cli.options import ThreadsInFull
from qwen35_local.cli.terminal import printable
from qwen35_local.units import counted, file_size

if TYPE_CHECKING:
    from qwen35_local.quantize import Report, TensorProgress

TYPES = "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_K_S, Q4_0, IQ4_XS"


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help=f"{MODEL_HELP}. Of a name that has both, its checkpoint.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(help="The file to write, or its folder. Default: MODEL-TYPE.gguf here.", show_default=False),
    ] = None,
    type: Annotated[str, typer.Option("--type", "-t", help=f"One of {TYPES}.")] = "Q4_K_M",
    name: Annotated[
        str | None,
        typer.Option(help="The model's name. Default: the repository's or the folder's.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the source, print sizes, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing output file.")] = False,
    allow_requantize: Annotated[
        bool,
        typer.Option(
            "--allow-requantize",
            help="Accept a source that was rounded before: a GGUF of lower precision, norms of MLX.",
        ),
    ] = False,
    threads: ThreadsInFull = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Convert a checkpoint to a quantised GGUF that this program and llama.cpp can load."""
    from qwen35_local.cli.model import source_path
    from qwen35_local.quantize import convert

    source = source_path(model)
    with conversion_bar() as progress:
        report = convert(
            source,
            out,
            type,
            name=name,
            progress=progress,
            dry_run=dry_run,
            threads=threads,
            overwrite=force,
            allow_requantize=allow_requantize,
        )
    for warning in report.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print(report)


@contextmanager
def conversion_bar() -> Iterator[Callable[["TensorProgress"], None] | None]:
    """A bar on stderr with the tensor in progress, MB/s of source read and the time left; none without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: "TensorProgress") -> None:
            label = f"{done.index + 1}/{done.count} {printable(done.tensor)}"
            bar.update(task, completed=done.done_bytes, total=done.total_bytes, description=f"{label:<42.42}")

        yield update


def _print(report: "Report") -> None:
    verb = "would be" if report.is_dry_run else "is"
    lines = [
        f"{printable(str(report.path))} {verb} {file_size(report.file_bytes)}: {report.file_type}, "
        f"{_count(report.n_values)} weights, {report.bits_per_weight:.2f} bits per weight"
    ]
    total = sum(tensor.n_bytes for tensor in report.tensors)
    for dtype, n_bytes in report.bytes_by_type().items():
        count = sum(tensor.dtype == dtype for tensor in report.tensors)
        lines.append(f"  {dtype:<7}{file_size(n_bytes):>10}  {n_bytes / total:6.1%}  {counted(count, 'tensor')}")
    if report.vision:
        lines.append(f"left out: {counted(len(report.vision), 'vision tensor')} ({printable(report.vision[0])} ...)")
    worst = report.worst()
    if worst:
        lines.append("largest relative errors (root of squared error over squared weights):")
        lines += [f"  {t.relative_rmse:7.2%}  {t.dtype:<7}{printable(t.name)}" for t in worst]
    if not report.is_dry_run:
        speed = report.source_bytes / 1e6 / max(report.seconds, 1e-9)
        memory = f", {file_size(report.peak_bytes)} of memory at most" if report.peak_bytes else ""
        lines.append(f"took {report.seconds:.1f} s, {speed:.0f} MB/s{memory}")
    typer.echo("\n".join(lines))


def _count(n: int) -> str:
    return f"{n / 1e9:.2f} billion" if n >= 1e9 else f"{n / 1e6:.1f} million"
