"""`qwen35 bench`: how fast a model is here, and how much of what this machine can do that is."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwen35_local.cli.argument import DEMO_HELP
from qwen35_local.cli.options import Device, Threads, count, refuse

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.cli.bench_report import Report
    from qwen35_local.engine.draft_cases import DraftCase
    from qwen35_local.engine.llama_bench import LlamaBench
    from qwen35_local.engine.machine import Machine
    from qwen35_local.engine.speed import Bench, Case, Rates, Run
    from qwen35_local.models.kv import KvFormat
    from qwen35_local.quantize.synthetic import Synthetic

FORMATS = ("table", "md", "json", "jsonl", "csv")


@dataclass(frozen=True)
class Settings:
    """With `drafts` these are the tests, in the place of `tests`."""

    tests: "list[Case]"
    drafts: "list[DraftCase]"
    device: str
    threads: int
    repetitions: int
    rival: "LlamaBench | None"
    profiles: bool


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded, and the file it came from (none for one made in memory); once more, for drafts, where
    these are tested."""

    model: "_core.Model"
    path: Path | None
    load_seconds: float
    for_drafts: "_core.Model | None" = None


def bench(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help=DEMO_HELP),
    ] = None,
    synthetic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE[:LAYERS]",
            help="A model of this size with random weights, made in memory: 0.8b, 2b, 4b, 9b, 27b, 35b-a3b, 122b-a10b, "
            "397b-a17b; 27b:8 for its first eight layers. Repeatable.",
        ),
    ] = None,
    type: Annotated[str, typer.Option("--type", help="Type of synthetic models, as in quantize.")] = "Q4_K_M",
    prompt: Annotated[str, typer.Option("--prompt", "-p", metavar="N,...", help="Prompt lengths; 0: none.")] = "512",
    gen: Annotated[int, count("--gen", "-n", help="Tokens to generate; 0: none.")] = 128,
    depth: Annotated[
        str, typer.Option("--depth", "-d", metavar="N,...", help="Tokens in the context before generation.")
    ] = "0,4096",
    batch: Annotated[
        str, typer.Option("--batch", metavar="N,...", help="Sequences that generate side by side.")
    ] = "1,4",
    kv: Annotated[
        str, typer.Option(metavar="FORMAT,...", help="Formats of keys and values: f16, q8, k8v4, q4.")
    ] = "f16",
    threads: Threads = 0,
    device: Device = "auto",
    repetitions: Annotated[int, count("--repetitions", "-r", low=1, help="Runs per test.")] = 5,
    format: Annotated[str, typer.Option("--format", "-o", help=", ".join(FORMATS) + ".")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write here instead of stdout.", show_default=False)] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="LLAMA_BENCH", help="Take turns with llama.cpp's llama-bench on the same file."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also show where the time goes, operation by operation.")
    ] = False,
    draft: Annotated[
        str | None,
        typer.Option(
            metavar="P,...|quote|skills",
            help="What drafts gain, in turns with none: each is right with probability P, as in 0,0.5,0.7,0.9; "
            "quote: a reply that repeats 2,000 tokens of its prompt; skills: what the embedded model can do.",
            show_default=False,
        ),
    ] = None,
    predict: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="Measure nothing: say how fast 3090, 4090, 5090 or h200 would decode by the bytes and kernels of a "
            "token. MODEL is then anything that `qwen35 plan` takes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Prefill and decode speed, as a share of the memory and 8-bit rates that the device is measured at: medians, and
    as spread the 90th less the 10th percentile over the median."""
    from qwen35_local.cli import bench_drafts
    from qwen35_local.cli.bench_report import SPEED, open_report
    from qwen35_local.cli.model import check_device, model_path, open_file
    from qwen35_local.engine import machine, speed
    from qwen35_local.engine.llama_bench import LlamaBench
    from qwen35_local.partial_file import check_target
    from qwen35_local.quantize.synthetic import synthetic as make

    lengths, depths, batches = numbers("--prompt", prompt), numbers("--depth", depth), numbers("--batch", batch)
    if predict is not None:
        from qwen35_local.cli.predict_report import show

        measured = ("synthetic", "repetitions", "output", "against", "profile", "draft")
        refuse(context, measured, "for what is measured, and --predict measures nothing; leave it out.")
        show(predict, models or [], type, depths, kv_formats(kv), format)
        return
    if not synthetic:
        refuse(context, ["type"], "for --synthetic and --predict; other models have the types of their files.")
    tests = speed.plan(lengths, gen, depths, batches, kv_formats(kv))
    check(tests, format, profile)
    drafts = [] if draft is None else bench_drafts.plan(draft, gen, depths, kv_formats(kv), batches)
    if drafts:
        bench_drafts.check(drafts, synthetic, against, profile)
    check_device(device)
    made = [make(text, type, drafts=bool(drafts)) for text in synthetic or ()]
    wanted: list[str | None] = [*models] if models else [] if made else [None]
    named = [open_file(model_path(name)) for name in wanted]
    if output is not None:
        check_target(output, [Path(path) for file in named for path in file.paths])
    rival = LlamaBench(against) if against is not None else None
    for model in made:
        check_memory(model, device, 2 if drafts else 1)
    with open_report(format, output, bench_drafts.GAIN if drafts else SPEED) as report:
        with working("measuring the device"):
            report.begin(found := machine.measure(device, threads))
        settings = Settings(tests, drafts, device, found.threads, repetitions, rival, profile)
        for file in named:
            measure(load(file, settings), settings, found, report)
        for model in made:
            with open_synthetic(model, settings) as subject:
                measure(subject, settings, found, report)


def numbers(option: str, text: str) -> list[int]:
    """Raises InputError."""
    from qwen35_local.errors import InputError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        raise InputError(f"{option} is {text!r}; expected counts separated by commas, as in 512,4096")
    return [int(word) for word in words]


def kv_formats(text: str) -> "list[KvFormat]":
    """Raises InputError."""
    from qwen35_local.errors import InputError
    from qwen35_local.models.memory import KV_FORMATS

    words = [word.strip() for word in text.split(",")]
    if not set(words) <= set(KV_FORMATS):
        raise InputError(f"--kv is {text!r}; expected formats separated by commas, of {', '.join(KV_FORMATS)}")
    known = {str(kv): kv for kv in KV_FORMATS}
    return [known[word] for word in dict.fromkeys(words)]


def check(tests: "list[Case]", format: str, profile: bool) -> None:
    """Raises InputError."""
    from qwen35_local.errors import InputError

    if format not in FORMATS:
        raise InputError(f"--format is {format!r}; expected one of {', '.join(FORMATS)}")
    if not tests:
        raise InputError("nothing to measure: --prompt and --gen are 0, and there is no --depth")
    if profile and format in ("jsonl", "csv"):
        raise InputError(f"--profile does not fit into the rows of {format}; use table, md or json")


def check_memory(model: "Synthetic", device: str, copies: int) -> None:
    """Raises InputError for a model that would not fit into the device's memory that is free (0: not known), where that
    is this machine's with what it is made from."""
    from qwen35_local import _core
    from qwen35_local.engine import machine
    from qwen35_local.errors import InputError
    from qwen35_local.units import file_size

    memory = _core.device_memory(device)
    free, made_from = machine.memory_bytes()[0], model.peak_bytes - model.n_bytes
    if not memory.is_host:
        free, made_from = memory.free, 0
    needed = copies * model.n_bytes + made_from
    if free and needed > free:
        raise InputError(
            f"{model.name} as {model.preset} takes {file_size(needed)} and {file_size(free)} of memory "
            f"are free; measure a smaller size, or its first layers as in {model.size}:8"
        )


def load(file: "_core.GgufFile", settings: Settings, synthetic: "Synthetic | None" = None) -> LoadedModel:
    """`file` is a header when a synthetic model is given."""
    import time

    from qwen35_local import _core
    from qwen35_local.cli.model import say_if_read
    from qwen35_local.engine import machine
    from qwen35_local.models.drafts import MOST_DRAFTS

    def model(drafts: int) -> _core.Model:
        return _core.Model(
            file,
            device=settings.device,
            threads=settings.threads,
            drafts=drafts,
            profile=settings.profiles,
            tensors=None if synthetic is None else synthetic.pattern,
        )

    machine.forget_peak_memory()
    begin = time.perf_counter()
    loaded = model(0)
    seconds = time.perf_counter() - begin
    path = Path(file.paths[0])
    say_if_read(path, loaded)
    for_drafts = model(MOST_DRAFTS) if settings.drafts else None
    return LoadedModel(loaded, path if synthetic is None else None, seconds, for_drafts)


@contextmanager
def open_synthetic(model: "Synthetic", settings: Settings) -> Iterator[LoadedModel]:
    """In memory, or as a file when another program has to read it; nothing is left behind."""
    import shutil
    import tempfile

    from qwen35_local import _core
    from qwen35_local.cli.progress import bar
    from qwen35_local.errors import InputError
    from qwen35_local.units import file_size

    with tempfile.TemporaryDirectory(prefix="qwen35-bench-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.gguf"
        if settings.rival is None:
            model.write_header(path)
            with working(f"making {model.name}"):
                subject = load(_core.GgufFile(path, header=True), settings, model)
        else:
            free = shutil.disk_usage(folder).free
            if model.n_bytes > free:
                raise InputError(
                    f"{folder}: {model.name} takes {file_size(model.n_bytes)} and {file_size(free)} are free; set "
                    "TMPDIR to a larger disk"
                )
            with bar(f"writing {model.name}", "MB") as progress:
                model.write(path, lambda done, total: progress(done // 1_000_000, total // 1_000_000))
            subject = load(_core.GgufFile(path), settings)
        yield subject


def measure(subject: LoadedModel, settings: Settings, machine: "Machine", report: "Report") -> None:
    """All tests of one model, row by row."""
    from qwen35_local.cli import bench_drafts
    from qwen35_local.cli.progress import bar
    from qwen35_local.engine import speed
    from qwen35_local.engine.cost import cost
    from qwen35_local.engine.profile import profile
    from qwen35_local.quantize.report import peak_memory

    if settings.drafts:
        bench_drafts.measure(subject, settings, machine, report)
        return
    bench, model_cost = speed.Bench(subject.model), cost(subject.model)
    bench.check(settings.tests)
    facts = describe(subject)
    report.model(facts)
    for test in settings.tests:
        with bar(f"evaluating the context of {test.name}", "tok") as progress:
            bench.prepare(test, progress)
        runs, theirs = alternate(bench, test, subject.path, settings)
        report.row(facts["model"], facts["type"], row(test, runs, theirs, speed.rates(test, runs, model_cost), machine))
    if settings.profiles:
        sizes = [test.n_prompt for test in settings.tests if test.kind == "prefill"]
        made = [(test.n_gen, test.depth) for test in settings.tests if test.kind == "decode"]
        n_gen, depth = made[0] if made else (0, 0)
        kv = settings.tests[0].kv
        with working("profiling"):
            phases = profile(subject.model, sizes[0] if sizes else 0, n_gen, depth, kv)
        report.profile(facts["model"], phases)
    report.end_model(peak_memory())


def alternate(bench: "Bench", test: "Case", path: Path | None, settings: Settings) -> "tuple[list[Run], list[float]]":
    """Our runs, and between them those of the other program, if it has the test."""
    from qwen35_local.cli.progress import bar

    rival = settings.rival if settings.rival is not None and settings.rival.has(test) else None
    runs, theirs = [], []
    with bar(test.name, "runs") as progress:
        for done in range(settings.repetitions):
            progress(done, settings.repetitions)
            runs.append(bench.run(test))
            if rival is not None:
                assert path is not None
                theirs.append(rival.tokens_per_s(path, test, settings.threads))
        progress(settings.repetitions, settings.repetitions)
    return runs, theirs


def describe(subject: LoadedModel) -> dict[str, Any]:
    from qwen35_local.quantize.recipe import FILE_TYPES

    model = subject.model
    number = model.metadata.get("general.file_type")
    types = {entry.number: name for name, entry in FILE_TYPES.items()}
    return {
        "model": str(model.config["name"] or (subject.path.stem if subject.path else "unnamed")),
        "type": types.get(number, "mixed") if isinstance(number, int) else "mixed",
        "file": str(subject.path) if subject.path else None,
        "weight_bytes": model.weight_bytes,
        "load_seconds": subject.load_seconds,
    }


def row(test: "Case", runs: "list[Run]", theirs: list[float], rates: "Rates", machine: "Machine") -> dict[str, Any]:
    """What one line of the report says, by the names of the JSON."""
    import numpy as np

    if rates.gb_per_s is not None:
        share = rates.gb_per_s / machine.read_gb_per_s.all
    else:
        assert rates.gops is not None
        share = rates.gops / machine.int8_gops.all
    ratios = [run.tokens_per_s / other for run, other in zip(runs, theirs, strict=False)]
    return {
        "test": test.kind,
        "name": test.name,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "depth": test.depth,
        "sequences": test.sequences,
        "kv": test.kv,
        "threads": machine.threads,
        "repetitions": len(runs),
        **asdict(rates),
        "percent_of_limit": 100 * share,
        "llama_bench_tokens_per_s": float(np.median(theirs)) if theirs else None,
        "ratio": float(np.median(ratios)) if ratios else None,
    }


def working(label: str) -> AbstractContextManager[object]:
    """A spinner on stderr while something without steps goes on; silent without a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(label)
