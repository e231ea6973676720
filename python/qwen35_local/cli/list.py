"""`qwen35 list`: the models on this disk, whoever put them there."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qwen35_local.hub.stored import Stored


def list(
    show_all: Annotated[bool, typer.Option("--all", help="Models of other families too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, with paths.")] = False,
) -> None:
    """Models of the family on this disk: our own, and those of the hub's cache, Ollama and LM Studio, which are used in
    place. Each name can be given to every command."""
    from qwen35_local.cli.terminal import notice
    from qwen35_local.hub import disk
    from qwen35_local.hub.resolve import searched
    from qwen35_local.units import counted

    everything = disk.models()
    models = everything if show_all else [model for model in everything if is_shown(model)]
    if as_json:
        sys.stdout.write(json.dumps([facts(model) for model in models], indent=2) + "\n")
        return
    show(models)
    if not models:
        notice(f"no models of the family in {searched()}; `qwen35 pull 9b` gets one")
    if len(models) < len(everything):
        notice(f"not shown: {counted(len(everything) - len(models), 'model')} of other families (--all)")


def is_shown(model: "Stored") -> bool:
    """Of the family, as far as a file that may be missing can tell."""
    from qwen35_local.hub.contents import is_of_family

    return is_of_family(model.path) or (model.problem is not None and model.size is not None)


def facts(model: "Stored") -> dict[str, object]:
    return {
        "name": model.name,
        "type": model.type,
        "size": model.size,
        "repository": model.repository,
        "bytes": model.bytes,
        "path": str(model.path),
        "store": model.store,
        "is_checkpoint": model.is_checkpoint,
        "is_ours": model.is_ours,
        "problem": model.problem,
    }


def show(models: "Sequence[Stored]") -> None:
    """One line a model: its name, type, size on the disk and where it is."""
    from qwen35_local.cli.terminal import printable_line
    from qwen35_local.units import file_size

    rows = [
        (
            printable_line(model.name, 500),
            "checkpoint" if model.is_checkpoint else printable_line(model.type or "-"),
            file_size(model.bytes),
            model.store + (f"; {printable_line(model.problem)}" if model.problem else ""),
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else []
    for name, type, size, where in rows:
        sys.stdout.write(f"{name:<{widths[0]}}  {type:<{widths[1]}}  {size:>{widths[2]}}  {where}\n")
