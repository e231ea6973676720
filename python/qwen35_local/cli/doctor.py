"""`qwen35 doctor`: what this machine computes with, what of it is not used and why; one screen to send."""

import json
import math
import os
import platform
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

KINDS = ("cuda", "metal")  # beside the processor
NVIDIA_VERSION = Path("/proc/driver/nvidia/version")

Facts = dict[str, Any]


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Looks at this machine: processor, memory, every device and its self-check, the folder of models. Send this with a
    report. Exit code 1 when a device that is here computes wrongly."""
    from qwen35_local.cli.progress import bar

    with bar("checking", "operations"):
        report = examine()
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        show(report)
    devices = [device for kind in report["devices"] for device in kind["devices"]]
    if not all(operation["passes"] for device in devices for operation in device["check"]):
        sys.exit(1)


def examine() -> Facts:
    """Plain values only; sizes in bytes."""
    return {"program": program(), "cpu": cpu(), "models": models(), "devices": [kind(name) for name in KINDS]}


def program() -> Facts:
    from qwen35_local import __version__

    system = " ".join(part for part in (platform.system(), platform.release(), platform.machine()) if part)
    return {"version": __version__, "python": platform.python_version(), "system": system}


def cpu() -> Facts:
    from qwen35_local import _core
    from qwen35_local.engine import machine

    free, total = machine.memory_bytes()
    return {
        "name": machine.cpu_name(),
        "isa": _core.isa(),
        "isas": _core.available_isas(),
        "threads": _core.usable_threads(),
        "processors": os.cpu_count(),
        "memory_bytes": total,
        "free_bytes": free,
    }


def models() -> Facts:
    """Where converted and downloaded models go."""
    from qwen35_local import hub
    from qwen35_local.errors import InputError

    try:
        home = hub.home()
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        return {"folder": str(home), "free_bytes": shutil.disk_usage(there).free, "problem": None}
    except (InputError, OSError) as error:
        return {"folder": None, "free_bytes": 0, "problem": str(error)}


def kind(name: str) -> Facts:
    """A kind of device; `absence` says why there is none of it."""
    from qwen35_local import _core

    count = _core.count_devices(name)
    facts = dict(_core.kind_facts(name))
    if name == "cuda" and (release := nvidia_release()):
        facts["release"] = release
    return {
        "kind": name,
        "absence": None if count else _core.absence(name),
        "facts": facts,
        "devices": [device(f"{name}:{number}") for number in range(count)],
    }


def device(name: str) -> Facts:
    """A device that is there; `absence` says why it is of no use."""
    from qwen35_local import _core
    from qwen35_local.errors import Qwen35Error

    facts, free_bytes = {}, None
    with suppress(Qwen35Error):  # what a lost card answers
        facts = dict(_core.device_facts(name))
    absence, operations = _core.self_check(name)
    try:
        free_bytes = None if absence else _core.device_memory(name).free
    except Qwen35Error as error:
        absence = str(error)
    return {
        "device": name,
        "absence": absence or None,
        "facts": facts,
        "free_bytes": free_bytes,
        "check": [operation(*row) for row in operations],
    }


def operation(name: str, difference: float, expected: float, seconds: float, error: str, passes: bool) -> Facts:
    """`difference` None: a result was no number, or there was none."""
    return {
        "operation": name,
        "difference": difference if math.isfinite(difference) and not error else None,
        "expected": expected,
        "seconds": seconds,
        "error": error or None,
        "passes": passes,
    }


def nvidia_release(path: Path = NVIDIA_VERSION) -> str | None:
    """Of the driver, as Linux tells it: "580.65.06". The driver itself says only which CUDA it knows."""
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", path.read_text(errors="replace"))
    except OSError:
        return None
    return found[0] if found else None


def show(report: Facts) -> None:
    from rich.console import Console

    from qwen35_local.units import size

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    about, processor, folder = report["program"], report["cpu"], report["models"]
    line(console, "qwen35-local", f"{about['version']} · Python {about['python']} · {about['system']}")
    others = [isa for isa in processor["isas"] if isa != processor["isa"]]
    line(
        console, "cpu", f"{processor['name']} · {processor['isa']}" + (f" (also {', '.join(others)})" if others else "")
    )
    memory = f"{size(processor['free_bytes'])} of {size(processor['memory_bytes'])} free"
    line(console, "", f"{processor['threads']} of {processor['processors']} processors · memory {memory}")
    line(console, "models", folder["problem"] or f"{folder['folder']} · {size(folder['free_bytes'])} of disk free")
    for one in report["devices"]:
        show_kind(console, one)


def show_kind(console: "Console", one: Facts) -> None:
    from qwen35_local.units import size

    facts = " · ".join(f"{name} {value}" for name, value in one["facts"].items())
    if one["absence"]:
        line(console, one["kind"], one["absence"])
    if facts:
        line(console, "" if one["absence"] else one["kind"], facts)
    for found in one["devices"]:
        words = [value if name in ("name", "bus") else f"{name} {value}" for name, value in found["facts"].items()]
        if found["free_bytes"] is not None:
            words.append(f"{size(found['free_bytes'])} free")
        line(console, found["device"], " · ".join(words))
        line(console, "", f"not used: {found['absence']}" if found["absence"] else "used", style="bold")
        if found["check"]:
            show_check(console, found["check"])


def show_check(console: "Console", operations: list[Facts]) -> None:
    """The figures of a self-check."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(" " * LABEL + "self-check", no_wrap=True)
    for heading in ("difference", "at most", "ms"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in operations:
        difference = "-" if one["difference"] is None else f"{one['difference']:.1e}"
        verdict = "ok" if one["passes"] else "FAILED" if one["error"] else "WRONG"
        table.add_row(
            " " * LABEL + one["operation"],
            difference,
            f"{one['expected']:.1e}",
            f"{1e3 * one['seconds']:.1f}",
            Text(verdict, style="" if one["passes"] else "bold red"),
        )
    console.print(table)


LABEL = 14


def line(console: "Console", label: str, text: str, style: str = "") -> None:
    from qwen35_local.cli.terminal import printable_line

    console.print(f"{label:<{LABEL - 1}} {printable_line(text, 500)}", markup=False, style=style, soft_wrap=True)
