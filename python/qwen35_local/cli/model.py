"""From MODEL on the command line to a loaded model; a checkpoint is converted once, into the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local.cli.terminal import notice, printable_line
from qwen35_local.errors import FormatError, InputError

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.cli.subject import Subject
    from qwen35_local.engine.engine import Engine
    from qwen35_local.hub.offer import Offer
    from qwen35_local.hub.resolve import Absent, Checkpoint, ModelFile
    from qwen35_local.models.memory import Plan

# Free memory is an estimate, and a refusal that is wrong is worse than a machine that has to swap a little.
_BENEFIT_OF_DOUBT = 1.05


def open_file(path: Path) -> "_core.GgufFile":
    """A file that is to be loaded; what is odd about it is said. Raises FormatError when it is no model that can be
    run, OSError."""
    from qwen35_local import _core

    file = _core.GgufFile(path)
    if file.refusal is not None:
        raise FormatError(f"{path}: {file.refusal}")
    for text in file.notices:
        notice(text)
    return file


def open_core(name: str | None, *, context_tokens: int = 0, threads: int = 0) -> "_core.Model":
    """Raises InputError, and what open_file raises."""
    from qwen35_local import _core

    path = model_path(name)
    model = _core.Model(open_file(path), context_tokens=context_tokens, threads=threads)
    say_if_read(path, model)
    return model


def say_if_read(path: Path, model: "_core.Model") -> None:
    if not model.was_mapped:
        notice(
            f"{printable_line(str(path), 500)}: its file system cannot map files into memory; the model was read "
            "instead, which is the same but slower to start"
        )


def open_engine(
    name: str | None,
    *,
    context_tokens: int = 0,
    threads: int = 0,
    kv: str = "auto",
    kept_kv: str | None = None,
    memory: str | None = None,
    cache_bytes: int | None = None,
    disk_folder: Path | None = None,
    disk_bytes: int = 0,
) -> "Engine":
    """`context_tokens` 0: the model's own, or as much of it as fits into memory; `kv` may be "auto": `kept_kv`, that
    of the conversation to go on with, where that fits, else the widest that does. `memory` stands in for what the
    machine has free, as in "8G". `disk_folder`: where snapshots go beyond `cache_bytes` (None: as planned), up to
    `disk_bytes`.

    Raises what open_core raises, FormatError when the file has no usable tokenizer, and InputError when the model
    would not fit."""
    from qwen35_local import _core
    from qwen35_local.cli.subject import Extras, of_file
    from qwen35_local.engine.load import load
    from qwen35_local.models.memory import KV_FORMATS

    path = model_path(name)
    file = open_file(path)
    subject = of_file(path, file, Extras(threads=threads or _core.usable_threads()))
    first = kept_kv if kv == "auto" and kept_kv in KV_FORMATS else None
    plan = fitting(subject, context_tokens, kv, memory, first)
    chosen = plan.kv if plan is not None else first or ("f16" if kv == "auto" else kv)
    if kv == "auto" and chosen not in ("f16", first):
        notice(f"keys and values are kept in {chosen}: the widest format that fits; --kv says otherwise")
    planned_bytes = 1 << 30 if plan is None else plan.memory.snapshots
    engine = load(
        file,
        context_tokens=context_tokens if plan is None else plan.context_tokens,
        threads=threads,
        kv=chosen,
        cache_bytes=planned_bytes if cache_bytes is None else cache_bytes,
        disk_folder=disk_folder,
        disk_bytes=disk_bytes,
    )
    if not engine.template.text:
        notice(f"{path.name} carries no chat template; the family's own is used ({engine.template.name})")
    say_if_read(path, engine.model)
    own = subject.footprint.config.context_tokens
    if context_tokens > own:
        notice(
            f"context {context_tokens:,} tokens: beyond this model's own {own:,} YaRN stretches the positions "
            f"{context_tokens / own:.2f} times; short texts lose a little by it"
        )
    return engine


def fitting(
    subject: "Subject", context_tokens: int, kv: str, memory: str | None, first: str | None = None
) -> "Plan | None":
    """What to load; None where nobody knows how much memory there is. `first`: a format to try before `kv`. Raises
    InputError, with what would fit."""
    from qwen35_local.cli.units import parse_bytes, size
    from qwen35_local.engine import machine
    from qwen35_local.models.memory import solve

    given = None if memory is None else (parse_bytes("--memory", memory), "--memory")
    found = given or machine.memory_budget()
    if found is None:
        return None
    budget, source = found
    footprint = subject.footprint
    wanted = context_tokens or footprint.config.context_tokens
    generous = budget if given else int(_BENEFIT_OF_DOUBT * budget)
    for choice in (first or kv, kv):
        whole = solve(footprint, generous, context_tokens=wanted, kv=choice)
        if whole.fits:
            return whole
    part = solve(footprint, budget, kv=kv)
    if context_tokens or not part.fits:
        raise refusal(subject, whole if context_tokens else part, context_tokens, kv, budget, source)
    notice(
        f"context {part.context_tokens:,} tokens: the model's own {wanted:,} would not fit into {size(budget)} "
        f"({source}); --ctx or --memory says otherwise"
    )
    return part


def refusal(subject: "Subject", plan: "Plan", context_tokens: int, kv: str, budget: int, source: str) -> Exception:
    """What is needed, what there is, and what would fit."""
    from qwen35_local.cli import fit
    from qwen35_local.cli.subject import Extras
    from qwen35_local.cli.units import size

    memory = plan.memory
    words = {
        "kv": lambda choice: f"--kv {choice.plan.kv}",
        "ctx": lambda choice: f"--ctx {choice.plan.context_tokens}",
        "type": lambda choice: f"the same model as {choice.subject.type}",
        "size": lambda choice: f"{choice.subject.name} as {choice.subject.type}",
    }
    question = fit.Question(budget, context_tokens or None, kv)
    choices = [words[choice.change](choice) for choice in fit.nearest(subject, question, Extras())]
    return InputError(
        f"{subject.argument} takes {size(memory.total)} with {plan.context_tokens:,} tokens of context "
        f"({size(memory.weights)} of weights, {size(memory.kv)} of keys and values in {plan.kv}) and there are "
        f"{size(budget)} ({source}). "
        + (f"What would fit: {'; '.join(choices)}. " if choices else "")
        + f"`qwen35 plan {subject.argument}` shows the parts; --memory SIZE overrides what there is."
    )


def find(name: str | None, type: str | None = None, *, as_source: bool = False) -> "ModelFile | Checkpoint | Absent":
    """What MODEL means in every command (`hub.resolve`). A model that was looked up by its name is said on stderr.
    Raises InputError."""
    from qwen35_local.hub.resolve import Absent, resolve, whose
    from qwen35_local.quantize.recipe import FILE_TYPES

    found = resolve(name, type, convertible=FILE_TYPES, as_source=as_source)
    if not isinstance(found, Absent) and found.stored is not None:
        path = printable_line(str(found.stored.path), 500)
        notice(f"{printable_line(name or '')}: found in {whose(found.stored.store)}: {path}")
    return found


def model_path(name: str | None) -> Path:
    """The GGUF that `name` means, converting a checkpoint if that was not done yet, and downloading after a question
    what is not on this disk. Raises InputError, FormatError, and typer.Exit when the answer is no."""
    from qwen35_local.hub.resolve import Absent, Checkpoint

    found = find(name)
    if isinstance(found, Absent):
        from qwen35_local.cli.pull import obtain

        with on_a_hub(found):
            return obtain(found.name)
    return converted(found) if isinstance(found, Checkpoint) else found.path


def source_path(name: str) -> Path:
    """The checkpoint folder or the GGUF to convert from. Raises InputError."""
    from qwen35_local.hub.resolve import Absent, Checkpoint

    found = find(name, as_source=True)
    if isinstance(found, Absent):
        raise InputError(
            f"{name}: not on this disk; `qwen35 pull {found.name} --convert --type TYPE` downloads the checkpoint and "
            "converts it"
        )
    return found.folder if isinstance(found, Checkpoint) else found.path


def converted(found: "Checkpoint") -> Path:
    """Raises what `convert` raises."""
    if not found.cached.is_file():
        from qwen35_local.cli.quantize import conversion_bar
        from qwen35_local.quantize import convert

        notice(f"converting {printable_line(str(found.folder))} to {found.type}, once, into {found.cached.parent}")
        found.cached.parent.mkdir(parents=True, exist_ok=True)
        with conversion_bar() as progress:
            report = convert(found.folder, found.cached, found.type, progress=progress)
        for warning in report.warnings:
            notice(printable_line(warning, 500))
    return found.cached


def header_of(found: "Absent") -> "tuple[ModelFile | Checkpoint, Offer]":
    """What `plan` and `info` look at of a model that is not on this disk: the header of a GGUF or the config.json of a
    checkpoint, and the files that a hub offers. Raises InputError, FormatError."""
    from qwen35_local.hub import remote
    from qwen35_local.hub.resolve import of_path

    with on_a_hub(found):
        offer = remote.find(found.name)
        header = remote.header(offer)
    file = printable_line(offer.files[0].path)
    notice(f"{found.name}: not on this disk; read from the beginning of {file} of {offer.repository}")
    return of_path(header), offer


@contextmanager
def on_a_hub(found: "Absent") -> Iterator[None]:
    """Says what is on this disk in part. Where no hub answers, the model is said to be missing here."""
    from qwen35_local.hub import wire
    from qwen35_local.hub.resolve import searched

    if found.problem is not None:
        notice(f"{found.name}: {printable_line(found.problem, 500)}")
    try:
        yield
    except wire.Unreachable as error:
        raise InputError(f"{found.name}: not on this disk (looked in {searched()}), and {error}") from None
