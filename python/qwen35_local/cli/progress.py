"""A progress bar on stderr: how far, how fast, how long still. Silent where a terminal cannot redraw it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwen35_local.cli.terminal import is_dumb


@contextmanager
def bar(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields `update(done, total)` in units of `unit`. The bar appears with the first update that leaves something to
    do, and is gone with the one that does not, so that what follows may use the same terminal."""
    if not sys.stderr.isatty() or is_dumb():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} " + unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(label, total=None, rate="")

    def update(done: int, total: int) -> None:
        if done >= total:
            progress.stop()
            return
        speed = progress.tasks[0].speed
        progress.update(task, completed=done, total=total, rate=f"{speed:.0f} {unit}/s" if speed else "")
        progress.start()

    try:
        yield update
    finally:
        progress.stop()
