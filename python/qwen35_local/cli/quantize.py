"""`qwen35 quantize`: a checkpoint folder in, a GGUF out."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.cli.options import ThreadsInFull, count, parsed_as, refuse
from qwen35_local.cli.terminal import printable, typed
from qwen35_local.fields import number
from qwen35_local.units import counted, file_size, parse_bytes

if TYPE_CHECKING:
    from qwen35_local.quantize import Report, TensorProgress
    from qwen35_local.quantize.calibrate import TextsFor
    from qwen35_local.quantize.recipe import Recipe

TYPES = "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_K_S, Q4_0, IQ4_XS, Q3_K_M"

Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        "-t",
        help=f"One of {TYPES}; and PATTERN=TYPE for some tensors, as in '*.ssm_out.*=Q6_K'. Default: Q4_K_M.",
        show_default=False,
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="builtin|FILE|none",
        help="Texts to round for: of this program, or your own, or none. Default: builtin.",
        show_default=False,
    ),
]
TargetSize = Annotated[
    str | None, typer.Option(help="Choose types for tensors of so many bytes, as in 15.5G.", show_default=False)
]
TargetBpw = Annotated[
    float | None,
    typer.Option(
        parser=parsed_as(number(0, 32)),
        metavar="<float>",
        help="Choose types for so many bits per weight.",
        show_default=False,
    ),
]
Imatrix = Annotated[
    Path | None,
    typer.Option(help="Round by an importance matrix of llama-imatrix instead of --calibrate.", show_default=False),
]
CalibrationTokens = Annotated[
    int | None,
    count("--calibration-tokens", low=8192, help="Tokens of them. Default: 65,536, fewer for wide models."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="For the layers that are calibrated at a time, one at least, as in 4G. Default: 768M.", show_default=False
    ),
]
AllowRequantize = Annotated[
    bool,
    typer.Option(
        "--allow-requantize",
        help="Accept a source that was rounded before: a GGUF of lower precision, norms of MLX.",
    ),
]


def quantize(
    context: typer.Context,
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
    type: Types = None,
    recipe: Annotated[
        str, typer.Option(help="Which tensors get more bits: qwen35, by what this family loses; llama, as llama.cpp.")
    ] = "qwen35",
    target_size: TargetSize = None,
    target_bpw: TargetBpw = None,
    calibrate: Calibrate = None,
    imatrix: Imatrix = None,
    calibration_tokens: CalibrationTokens = None,
    memory: Memory = None,
    name: Annotated[
        str | None,
        typer.Option(help="The model's name. Default: the repository's or the folder's.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the source, print sizes, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing output file.")] = False,
    allow_requantize: AllowRequantize = False,
    threads: ThreadsInFull = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Convert a checkpoint to a quantised GGUF that this program and llama.cpp can load."""
    from qwen35_local.cli.model import source_path
    from qwen35_local.partial_file import check_target
    from qwen35_local.quantize import convert, importance
    from qwen35_local.quantize.calibrate import DEFAULT_MEMORY

    if imatrix is not None:
        refuse(context, ["calibrate", "calibration_tokens"], "--imatrix says how to round; leave it out.")
    if calibrate == "none":
        refuse(context, ["calibration_tokens"], "there are none with --calibrate none; leave it out.")
    if out is not None and out.is_file():
        check_target(out, [imatrix, None if calibrate is None else Path(calibrate)], overwrite=force or dry_run)
    preset, types = _types(type or [])
    source = source_path(model)
    texts = None if imatrix else _texts(preset, calibrate, calibration_tokens)
    with conversion_bar() as progress, _going_on(is_kept=texts is not None and not dry_run):
        report = convert(
            source,
            out,
            preset,
            recipe=cast("Recipe", recipe),
            types=types,
            target_bytes=None if target_size is None else parse_bytes("--target-size", target_size),
            target_bpw=target_bpw,
            texts=texts,
            importance=None if imatrix is None else importance.read(imatrix),
            memory=DEFAULT_MEMORY if memory is None else parse_bytes("--memory", memory),
            announce=_announce,
            name=None if name is None else typed(name),
            progress=progress,
            dry_run=dry_run,
            threads=threads,
            overwrite=force,
            allow_requantize=allow_requantize,
        )
    _show(report, as_json=as_json)


def _texts(preset: str, calibrate: str | None, tokens: int | None) -> "TextsFor | None":
    from qwen35_local.quantize.texts import NONE, texts_from

    is_exact = preset in ("F32", "F16", "BF16", "Q8_0")
    return None if is_exact or calibrate == NONE else texts_from(calibrate, tokens)


def _types(given: list[str]) -> tuple[str, dict[str, str]]:
    """The preset, and types by pattern of tensor names. Raises InputError."""
    from qwen35_local import _core
    from qwen35_local.errors import InputError

    presets = [word.upper() for word in given if "=" not in word]
    if len(presets) > 1:
        raise InputError(f"--type is {' and '.join(presets)}; expected one of them, and PATTERN=TYPE for some tensors.")
    types = {}
    for word in given:
        pattern, equals, dtype = word.rpartition("=")
        if equals and dtype.upper() not in _core.block_types():
            raise InputError(f"--type {word}: {dtype!r} is no type of tensors; one is Q6_K.")
        if equals:
            types[pattern] = dtype.upper()
    return presets[0] if presets else "Q4_K_M", types


def _announce(tokens: int, seconds: float) -> None:
    """Before a wait of minutes; how long it is, and how to do without."""
    if seconds >= 60:
        typer.echo(
            f"calibrating on {tokens:,} tokens, about {round(seconds / 60):,} minutes; --calibrate none takes seconds "
            "and loses more of the model",
            err=True,
        )


@contextmanager
def _going_on(*, is_kept: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if is_kept:
            typer.echo("what is done is kept: the same command goes on with it", err=True)
        raise


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


def _show(report: "Report", *, as_json: bool) -> None:
    for warning in report.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print(report)


def _print(report: "Report") -> None:
    verb = "would be" if report.is_dry_run else "is"
    lines = [
        f"{printable(str(report.path))} {verb} {file_size(report.file_bytes)}: {report.file_type}, "
        f"{_count(report.n_values)} weights, {report.bits_per_weight:.2f} bits per weight"
    ]
    total = sum(tensor.n_bytes for tensor in report.tensors)
    for dtype, n_bytes in report.bytes_by_type().items():
        kinds = report.kinds_of(dtype)
        line = f"  {dtype:<7}{file_size(n_bytes):>10}  {n_bytes / total:6.1%}  {counted(kinds.total(), 'tensor')}"
        named = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        lines.append(line if dtype in ("F32", "F16", "BF16") else f"{line}: {printable(named)}")
    if report.vision:
        lines.append(f"left out: {counted(len(report.vision), 'vision tensor')} ({printable(report.vision[0])} ...)")
    calibrated = [t.calibration for t in report.tensors if t.calibration is not None]
    if calibrated:
        kept, of = sum(c.kept for c in calibrated), sum(c.matrices for c in calibrated)
        mean = sum(c.error_ratio for c in calibrated) / len(calibrated)
        lines.append(
            f"calibrated: {kept} of {of} matrices were solved with less error on held-out texts, the others are "
            f"rounded by importance; {mean:.2f} of that error in the mean"
        )
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
