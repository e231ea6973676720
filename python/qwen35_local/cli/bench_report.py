"""What `qwen35 bench` prints: rows as they are measured, or one JSON document at the end."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from qwen35_local.cli.terminal import printable_line
from qwen35_local.partial_file import PartialFile
from qwen35_local.units import counted

if TYPE_CHECKING:
    from qwen35_local.engine.machine import Machine
    from qwen35_local.engine.profile import Phase

Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What a table shows of a row, by `cells`: its test, one text for each of `names`, and a remark."""

    names: tuple[str, ...]
    widths: tuple[int, ...]
    cells: Callable[[Row], list[str]]


class Report:
    """The order of calls is begin, then per model: model, notes and rows, profile, end_model; then end. A note is what
    every row of some says too: it is for tables."""

    def __init__(self, out: TextIO, columns: Columns) -> None:
        self.out = out
        self.columns = columns

    def begin(self, machine: "Machine") -> None: ...
    def model(self, facts: Row) -> None: ...
    def note(self, text: str) -> None: ...
    def row(self, model: str, type: str, row: Row) -> None: ...
    def profile(self, model: str, phases: "list[Phase]") -> None: ...
    def end_model(self, peak_memory_bytes: int) -> None: ...
    def end(self) -> None: ...

    def line(self, text: str = "") -> None:
        self.out.write(text.rstrip() + "\n")
        self.out.flush()


@contextmanager
def open_report(format: str, path: Path | None, columns: Columns) -> Iterator[Report]:
    """On stdout, or whole in the file `path`. Raises OSError."""
    kinds = {"table": Table, "md": Markdown, "json": Json, "jsonl": JsonLines, "csv": Csv}
    if path is None:
        yield from _whole(kinds[format](sys.stdout, columns))
    else:
        with PartialFile(path) as file, io.StringIO(newline="") as text:
            yield from _whole(kinds[format](text, columns))
            file.write(memoryview(text.getvalue().encode()))
            file.commit()


def _whole(report: Report) -> Iterator[Report]:
    yield report
    report.end()


class Table(Report):
    """For people: a heading per model, rows in columns."""

    def begin(self, machine: "Machine") -> None:
        self._largest_cache = max(machine.caches.values(), default=0)
        for text in machine_lines(machine):
            self.line(text)

    def model(self, facts: Row) -> None:
        self._fits_cache = facts["weight_bytes"] < self._largest_cache
        self.line()
        self.line(model_line(facts))
        self._line_of("test", *self.columns.names, "")

    def note(self, text: str) -> None:
        self.line(f"  {text}")

    def row(self, model: str, type: str, row: Row) -> None:
        self._line_of(*self.columns.cells(row))

    def _line_of(self, test: str, *cells: str) -> None:
        *cells_, note = cells
        aligned = "".join(f"{cell:>{width}}" for cell, width in zip(cells_, self.columns.widths, strict=True))
        self.line(f"  {test:<20}{aligned}  {note}")

    def profile(self, model: str, phases: "list[Phase]") -> None:
        for phase in phases:
            each = 1e3 * phase.seconds / phase.tokens
            self.line(f"  where the time of {phase.name} goes: {each:.3f} ms per token")
            for part in phase.parts:
                share = f"{100 * part.seconds / phase.seconds:.1f} %"
                calls = f"{part.calls} calls" if part.calls else ""
                self.line(f"    {part.name:<12}{1e3 * part.seconds / phase.tokens:>10.3f} ms{share:>9}  {calls}")

    def end_model(self, peak_memory_bytes: int) -> None:
        self.line(f"  memory at most {size(peak_memory_bytes)}, weights once" if peak_memory_bytes else "")
        if self._fits_cache:
            self.line("  The weights fit into a cache: memory is not their limit, and a share of it can exceed 100 %.")


class Markdown(Table):
    """The same, to paste."""

    def begin(self, machine: "Machine") -> None:
        self._largest_cache = max(machine.caches.values(), default=0)
        for text in machine_lines(machine):
            self.line(f"* {text}")

    def model(self, facts: Row) -> None:
        self._fits_cache = facts["weight_bytes"] < self._largest_cache
        self.line()
        self.line(model_line(facts))
        self.line()
        self.line(f"| model | type | test | {' | '.join(self.columns.names)} | |")
        self.line(f"|---|---|---|{'---:|' * len(self.columns.names)}---|")

    def note(self, text: str) -> None:
        """Between two rows it would end the table: the rows say it."""

    def row(self, model: str, type: str, row: Row) -> None:
        cells = [printable_line(model).replace("|", "\\|"), type, *self.columns.cells(row)]
        self.line(f"| {' | '.join(cells)} |")

    def profile(self, model: str, phases: "list[Phase]") -> None:
        for phase in phases:
            self.line()
            self.line(f"| {phase.name} | ms per token | share |")
            self.line("|---|---:|---:|")
            for part in phase.parts:
                each, share = 1e3 * part.seconds / phase.tokens, 100 * part.seconds / phase.seconds
                self.line(f"| {part.name} | {each:.3f} | {share:.1f} % |")

    def end_model(self, peak_memory_bytes: int) -> None:
        self.line()
        super().end_model(peak_memory_bytes)


class Json(Report):
    """One document: machine, models, rows and, when asked for, profiles."""

    def begin(self, machine: "Machine") -> None:
        self._document: dict[str, Any] = {"machine": machine.as_dict(), "models": [], "rows": []}

    def model(self, facts: Row) -> None:
        self._document["models"].append(dict(facts))

    def row(self, model: str, type: str, row: Row) -> None:
        self._document["rows"].append({"model": model, "type": type, **row})

    def profile(self, model: str, phases: "list[Phase]") -> None:
        for phase in phases:
            parts = [
                {
                    "name": part.name,
                    "seconds": part.seconds,
                    "percent": 100 * part.seconds / phase.seconds,
                    "calls": part.calls,
                }
                for part in phase.parts
            ]
            entry = {"model": model, "phase": phase.name, "tokens": phase.tokens, "seconds": phase.seconds}
            self._document.setdefault("profiles", []).append({**entry, "parts": parts})

    def end_model(self, peak_memory_bytes: int) -> None:
        self._document["models"][-1]["peak_memory_bytes"] = peak_memory_bytes or None

    def end(self) -> None:
        self.line(json.dumps(self._document, indent=2))


class Rows(Report):
    """Every row says everything: the machine's facts, the model's, its own."""

    def begin(self, machine: "Machine") -> None:
        self._machine = {
            "cpu": machine.cpu,
            "isa": machine.isa,
            "device": machine.device,
            "card": machine.card,
            "read_gb_per_s": machine.read_gb_per_s.all,
            "int8_gops": machine.int8_gops.all,
        }

    def model(self, facts: Row) -> None:
        self._facts = {name: facts[name] for name in ("weight_bytes", "load_seconds")}

    def row(self, model: str, type: str, row: Row) -> None:
        self.write({**self._machine, "model": model, "type": type, **self._facts, **row})

    def write(self, row: Row) -> None: ...


class JsonLines(Rows):
    def write(self, row: Row) -> None:
        self.line(json.dumps(row))


class Csv(Rows):
    _is_begun = False

    def write(self, row: Row) -> None:
        writer = csv.DictWriter(self.out, row, lineterminator="\n")
        if not self._is_begun:
            writer.writeheader()
        self._is_begun = True
        writer.writerow(row)
        self.out.flush()


def machine_lines(machine: "Machine") -> list[str]:
    caches = ", ".join(f"{name} {binary_size(n)}" for name, n in machine.caches.items())
    host = f"{printable_line(machine.cpu)} · {machine.isa}, {counted(machine.threads, 'thread')}"
    read, int8 = machine.read_gb_per_s, machine.int8_gops
    one_reads = f" (one core {read.one:.1f})" if read.one is not None else ""
    one_multiplies = f" (one core {int8.one:,.0f})" if int8.one is not None else ""
    return [
        (f"{machine.device}: {printable_line(machine.card)}" if machine.card else host)
        + (f" · {caches}" if caches else ""),
        *([f"beside {host}"] if machine.card else []),
        f"reads {read.all:.1f} GB/s of memory{one_reads}, buffer {size(machine.read_buffer_bytes)}",
        f"multiplies {int8.all:,.0f} Gop/s of 8 bits{one_multiplies}",
    ]


def model_line(facts: Row) -> str:
    weights, seconds = size(facts["weight_bytes"]), facts["load_seconds"]
    return f"{printable_line(facts['model'])} · {facts['type']} · {weights} of weights · loaded in {seconds:.2f} s"


def row_cells(row: Row) -> list[str]:
    """Test, tokens/s, spread, rate, share of the peak, remark."""
    gb, gops = row["gb_per_s"], row["gops"]
    rate = f"{gb:.1f} GB/s" if gb is not None else f"{gops:,.0f} Gop/s"
    notes = []
    if row["test"] == "turn":
        notes.append(f"first token after {row['seconds']:.3f} s, nothing evaluated again")
    if row["one_token_ratio"] is not None:
        notes.append(f"{row['one_token_ratio']:.2f} x the time of one token")
    if row["ratio"] is not None:
        notes.append(f"{row['ratio']:.2f} x llama-bench ({row['llama_bench_tokens_per_s']:.2f})")
    speed, spread = f"{row['tokens_per_s']:.2f}", f"{100 * row['spread']:.1f} %"
    return [row["name"], speed, spread, rate, f"{row['percent_of_limit']:.0f} %", ", ".join(notes)]


SPEED = Columns(("tokens/s", "spread", "rate", "of peak"), (10, 9, 14, 10), row_cells)


def binary_size(n_bytes: int) -> str:
    """As caches are sold."""
    return f"{n_bytes / (1 << 20):g} MiB" if n_bytes >= 1 << 20 else f"{n_bytes / (1 << 10):g} KiB"


def size(n_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} B"
