"""`qwen35 imatrix`: an importance matrix, for this program's converter or for llama-quantize."""

from pathlib import Path
from typing import Annotated

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.cli.options import ThreadsInFull, count
from qwen35_local.cli.terminal import printable
from qwen35_local.units import counted


def imatrix(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_HELP}. Of at least Q8_0.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The file to write, a GGUF.")] = Path("imatrix.gguf"),
    calibrate: Annotated[
        str, typer.Option(metavar="builtin|FILE", help="Texts: of this program, or a file of your own.")
    ] = "builtin",
    tokens: Annotated[int, count("--calibration-tokens", low=8192, help="Tokens of them.")] = 65536,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing output file.")] = False,
    threads: ThreadsInFull = 0,
) -> None:
    """Measure how much each column of each matrix matters, as llama-imatrix does."""
    from qwen35_local.cli.model import source_path
    from qwen35_local.cli.progress import bar
    from qwen35_local.partial_file import check_target
    from qwen35_local.quantize.measure import measure_importance
    from qwen35_local.quantize.texts import texts_from

    check_target(out, [Path(calibrate)], overwrite=force)
    texts = texts_from(calibrate, tokens)
    with bar("measuring", "tok") as progress:
        found = measure_importance(
            source_path(model), out, texts, dataset=calibrate, threads=threads, progress=progress
        )
    n_tokens = found.chunks * found.chunk_tokens
    typer.echo(f"{printable(str(out))}: {counted(len(found.inputs), 'tensor')} over {counted(n_tokens, 'token')}")
