"""`qwen35 pull`: a model from a hub onto this disk; and the same for commands that are given a name."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwen35_local.cli.terminal import is_dumb, notice, printable_line

if TYPE_CHECKING:
    from qwen35_local.hub.names import RepositoryName, SizeName


def pull(
    model: Annotated[
        str, typer.Argument(metavar="NAME", help="9b, 35b-a3b, OWNER/NAME, OWNER/NAME:Q4_K_M.", show_default=False)
    ],
    type: Annotated[
        str | None, typer.Option("--type", "-t", help="As in Q4_K_M, UD-Q4_K_XL. Unset: 4 bits.", show_default=False)
    ] = None,
    convert: Annotated[
        bool, typer.Option("--convert", help="Take the official checkpoint and convert it here, to --type.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False,
) -> None:
    """Download a model, resumed and checked, into the cache of huggingface_hub; prints where it is."""
    from qwen35_local.cli.model import find
    from qwen35_local.errors import InputError
    from qwen35_local.hub.names import RepositoryName, SizeName, parse

    name = parse(model)
    if not isinstance(name, SizeName | RepositoryName):
        raise InputError(f"{model}: expected a size as in 9b or 35b-a3b, or a repository of a hub as in OWNER/NAME")
    if type and name.type and type.upper() != name.type:
        raise InputError(f"{model} with --type {type}: two types for one model; leave one of them out")
    with suppress(InputError):
        find(model, type)  # says so when another program has it
    path = obtain(name, type, yes=yes, as_checkpoint=convert)
    sys.stdout.write(f"{printable_line(str(path), limit=4096)}\n")


def obtain(
    name: "SizeName | RepositoryName", type: str | None = None, *, yes: bool = False, as_checkpoint: bool = False
) -> Path:
    """The GGUF of a name that a hub knows, downloaded once it is agreed to; a checkpoint is converted here, to `type`.

    Says what would be downloaded and whether it fits, and asks on a terminal. Raises typer.Exit when the answer is no,
    InputError without a terminal and without `yes`, and what `hub.remote.find` and `hub.pull.download` raise."""
    from qwen35_local.cli.offered import Offered
    from qwen35_local.cli.question import agreed, can_ask
    from qwen35_local.errors import InputError
    from qwen35_local.hub import remote
    from qwen35_local.hub.pull import check_space, download, place

    offer = remote.find(name, type, as_checkpoint=as_checkpoint)
    offered = Offered.of(name, offer, type or name.type)
    have = place(offer).have
    for line in offered.lines(have):
        notice(line)
    if have < offer.n_bytes:
        check_space(offer, offered.converted_bytes)
        if not yes:
            if not can_ask():
                again = command(name, type, as_checkpoint)
                raise InputError(f"nobody to ask here; `qwen35 pull {again} --yes` downloads it")
            if not agreed("Download it?" if offered.fits else "Download it all the same?", is_advised=offered.fits):
                raise typer.Exit(1)
    highest = have
    try:
        with download_bar(have, offer.n_bytes) as update:

            def progress(done: int, total: int) -> None:
                nonlocal highest
                if done > highest:
                    highest = done
                    update(done)

            path = download(offer, progress)
    except KeyboardInterrupt:
        notice(f"stopped at {percent(highest, offer.n_bytes)}; the same command goes on there")
        raise
    return converted_checkpoint(path, offered.type) if offer.is_checkpoint else path


def converted_checkpoint(folder: Path, type: str) -> Path:
    from qwen35_local.cli.model import converted
    from qwen35_local.hub.conversions import conversion
    from qwen35_local.hub.resolve import Checkpoint

    return converted(Checkpoint(folder, type, conversion(folder, type)))


def command(name: "SizeName | RepositoryName", type: str | None, as_checkpoint: bool) -> str:
    """What to type after `qwen35 pull` for the same again."""
    return f"{name}{f' --type {type}' if type else ''}{' --convert' if as_checkpoint else ''}"


def percent(done: int, total: int) -> str:
    from qwen35_local.units import file_size

    return f"{100 * done // max(total, 1)} % ({file_size(done)} of {file_size(total)})"


@contextmanager
def download_bar(have: int, total: int) -> Iterator[Callable[[int], None]]:
    """Yields `update(done)`: a bar with bytes, rate and time left on a terminal, else a line for every tenth."""
    if not sys.stderr.isatty() or is_dumb():
        yield lines_of_tenths(have, total)
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=have)
        yield lambda done: bar.update(task, completed=done)


def lines_of_tenths(have: int, total: int) -> Callable[[int], None]:
    started = time.monotonic()
    tenth = 10 * have // max(total, 1)

    def update(done: int) -> None:
        nonlocal tenth
        if 10 * done // max(total, 1) <= tenth:
            return
        tenth = 10 * done // max(total, 1)
        rate = (done - have) / max(time.monotonic() - started, 1e-3)
        left = int((total - done) / rate)
        notice(f"{percent(done, total)}, {rate / 1e6:,.1f} MB/s, {left // 60}:{left % 60:02} left")

    return update
