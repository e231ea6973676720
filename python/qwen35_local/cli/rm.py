"""`qwen35 rm`: a model of ours leaves this disk."""

from typing import Annotated

import typer


def rm(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name that `qwen35 list` shows, or a path.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model that this program converted or downloaded. What other programs keep is left to them."""
    from qwen35_local.cli.question import agreed, can_ask
    from qwen35_local.cli.terminal import notice, printable_line
    from qwen35_local.errors import InputError
    from qwen35_local.hub.removal import remove, to_remove
    from qwen35_local.units import file_size

    found = to_remove(model)
    what = f"{printable_line(found.name)} ({file_size(found.bytes)}, {printable_line(str(found.path), 500)})"
    if not yes:
        if not can_ask():
            raise InputError(f"{what} would be removed; --yes does it where nobody can be asked")
        if not agreed(f"Remove {what}?", is_advised=False):
            raise typer.Exit(1)
    remove(found)
    notice(f"removed {what}")
