"""From a name to a loaded model, alike for the command line and the library. Nothing is printed or asked here."""

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

from qwen35_local import _core
from qwen35_local.engine import machine
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.load import load
from qwen35_local.errors import FormatError, InputError
from qwen35_local.fields import integer
from qwen35_local.hub.resolve import Absent, Checkpoint, resolve
from qwen35_local.models.drafts import Drafts, most_drafts
from qwen35_local.models.kv import KvChoice, KvFormat
from qwen35_local.models.memory import KV_FORMATS, Plan, solve
from qwen35_local.plan import fit
from qwen35_local.plan.subject import Extras, Subject, of_file
from qwen35_local.quantize import FILE_TYPES, TensorProgress, convert
from qwen35_local.units import size

_COUNT = integer(0, (1 << 53) - 1)
_PARALLEL = integer(1, 256)

# Free memory is an estimate, and a refusal that is wrong is worse than a machine that has to swap a little.
_BENEFIT_OF_DOUBT = 1.05


@dataclass(frozen=True)
class OptionNames:
    """How the options are written where a message names them, as in "--kv q8" and "kv=q8"."""

    context: str
    kv: str
    memory: str
    draft: str
    device: str
    equals: str


FLAGS = OptionNames("--ctx", "--kv", "--memory", "--draft", "--device", " ")
KEYWORDS = OptionNames("context_tokens", "kv", "memory_bytes", "draft", "device", "=")


@dataclass(frozen=True)
class Wish:
    """How a model is to be opened. `context_tokens` 0: the model's own, or as much of it as fits into memory. `kv`
    "auto": `first_kv` where that fits, else the widest format that does. `memory_bytes` stands in for what is free.
    `cache_bytes`: of the host's memory for snapshots; None: as planned. `parallel` replies are written side by side,
    `queue` more may wait (`Limits`). More of them go to `disk_folder`, up to
    `disk_bytes`. `draft`: how many drafts a pass verifies."""

    device: str = "auto"
    context_tokens: int = 0
    threads: int = 0
    kv: KvChoice = "auto"
    first_kv: KvFormat | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    disk_folder: Path | None = None
    disk_bytes: int = 0
    parallel: int = 1
    queue: float = inf
    prefill_share: float = 0.9
    draft: Drafts = "auto"

    def __post_init__(self) -> None:
        """Raises InputError for a value that cannot be."""
        for name in ("context_tokens", "threads", "memory_bytes", "cache_bytes"):
            value = getattr(self, name)
            if value is not None and not _COUNT.fits(value):
                raise InputError(f"{name} is {reprlib.repr(value)}; expected {_COUNT.expected}")
        if not _PARALLEL.fits(self.parallel):
            raise InputError(f"parallel is {reprlib.repr(self.parallel)}; expected {_PARALLEL.expected}")
        if self.kv != "auto" and self.kv not in KV_FORMATS:
            raise InputError(f"kv is {reprlib.repr(self.kv)}; expected auto or one of {', '.join(KV_FORMATS)}")
        most_drafts(self.draft)


class Opening:
    """`notice` takes a sentence about something odd or lost, for a person to read; `names` is how it calls options."""

    def __init__(self, wish: Wish, names: OptionNames, notice: Callable[[str], None]) -> None:
        self._wish = wish
        self._names = names
        self._notice = notice

    def engine(self, path: Path) -> Engine:
        """Raises FormatError when the file is no model that can be run or has no usable tokenizer, TemplateError,
        OSError, and InputError when the model would not fit."""
        wish = self._wish
        file = open_file(path, self._notice)
        subject, plan = self._planned(of_file(path, file, self._extras))
        kv, context_tokens, pass_rows, snapshot_bytes = self._chosen(plan)
        host = plan.host if plan is not None else None
        if wish.cache_bytes is not None and host is None:
            snapshot_bytes = wish.cache_bytes
        engine = load(
            file,
            device=wish.device,
            context_tokens=context_tokens,
            threads=wish.threads,
            pass_rows=pass_rows,
            kv=kv,
            cache_bytes=snapshot_bytes,
            host_cache_bytes=None if host is None else host.snapshots if wish.cache_bytes is None else wish.cache_bytes,
            disk_folder=wish.disk_folder,
            disk_bytes=wish.disk_bytes,
            limits=Limits(wish.parallel, wish.queue, wish.prefill_share, None if plan is None else plan.kv_tokens),
            draft=wish.draft if subject.footprint.drafts else "off",
        )
        if not engine.template.text:
            self._notice(f"{path.name} carries no chat template; the family's own is used ({engine.template.name})")
        notice_if_read(path, engine.model, self._notice)
        self._notice_yarn(subject.footprint.config.context_tokens)
        return engine

    @property
    def _extras(self) -> Extras:
        wish = self._wish
        threads = wish.threads or _core.usable_threads()
        return Extras(threads=threads, device=wish.device, drafts=most_drafts(wish.draft))

    def _planned(self, subject: Subject) -> tuple[Subject, Plan | None]:
        """Without drafts where what they take would not fit, unless a number of them was asked for. Raises what `plan`
        raises."""
        try:
            return subject, self.plan(subject)
        except InputError:
            if self._wish.draft != "auto":
                raise
        plain = subject.with_drafts(0)
        plan = self.plan(plain)
        self._notice(f"nothing is drafted: what drafts take would not fit; {self._names.draft} says otherwise")
        return plain, plan

    def _chosen(self, plan: Plan | None) -> tuple[KvFormat, int, int | None, int]:
        """KV format, context tokens, tokens of a pass, bytes of snapshots."""
        wish = self._wish
        if plan is None:
            kv = self._first_kv or ("f16" if wish.kv == "auto" else wish.kv)
            return kv, wish.context_tokens, None, 1 << 30
        if wish.kv == "auto" and plan.kv not in ("f16", self._first_kv):
            self._notice(
                f"keys and values are kept in {plan.kv}: the widest format that fits; {self._names.kv} says otherwise"
            )
        return plan.kv, plan.context_tokens, plan.rows, plan.memory.snapshots

    @property
    def _first_kv(self) -> KvFormat | None:
        wish = self._wish
        return wish.first_kv if wish.kv == "auto" and wish.first_kv in KV_FORMATS else None

    def _notice_yarn(self, own: int) -> None:
        asked = self._wish.context_tokens
        if asked > own:
            self._notice(
                f"context {asked:,} tokens: beyond this model's own {own:,} YaRN stretches the positions "
                f"{asked / own:.2f} times; short texts lose a little by it"
            )

    def plan(self, subject: Subject) -> Plan | None:
        """What to load; None where nobody knows how much memory there is. Raises InputError, with what would fit."""
        wish, names = self._wish, self._names
        given = None if wish.memory_bytes is None else (wish.memory_bytes, names.memory)
        found = given or machine.memory_budget(wish.device)
        if found is None:
            return None
        budget, source = found
        footprint = subject.footprint
        wanted = wish.context_tokens or footprint.config.context_tokens
        generous = budget if given else int(_BENEFIT_OF_DOUBT * budget)
        for choice in (self._first_kv or wish.kv, wish.kv):
            whole = solve(footprint, generous, context_tokens=wanted, kv=choice, parallel=wish.parallel)
            if whole.fits:
                return whole
        part = solve(footprint, budget, kv=wish.kv, parallel=wish.parallel)
        if wish.context_tokens or not part.fits:
            raise self._refusal(subject, whole if wish.context_tokens else part, budget, source)
        self._notice(
            f"context {part.context_tokens:,} tokens: the model's own {wanted:,} would not fit into {size(budget)} "
            f"({source}); {names.context} or {names.memory} says otherwise"
        )
        return part

    def _refusal(self, subject: Subject, plan: Plan, budget: int, source: str) -> InputError:
        """What is needed, what there is, and what would fit."""
        wish, names, memory = self._wish, self._names, plan.memory
        words = {
            "draft": lambda choice: f"{names.draft}{names.equals}off",
            "kv": lambda choice: f"{names.kv}{names.equals}{choice.plan.kv}",
            "ctx": lambda choice: f"{names.context}{names.equals}{choice.plan.context_tokens}",
            "type": lambda choice: f"the same model as {choice.subject.type}",
            "size": lambda choice: f"{choice.subject.name} as {choice.subject.type}",
        }
        question = fit.Question(budget, wish.context_tokens or None, wish.kv, names.context, wish.parallel)
        choices = [words[choice.change](choice) for choice in fit.nearest(subject, question, self._extras)]
        if self._fits_processor(subject):
            choices.append(f"{names.device}{names.equals}cpu, slower")
        return InputError(
            f"{subject.argument} takes {size(memory.total)} with {plan.context_tokens:,} tokens of context "
            f"({size(memory.weights)} of weights, {size(memory.kv)} of keys and values in {plan.kv}) and there are "
            f"{size(budget)} ({source}). "
            + (f"What would fit: {'; '.join(choices)}. " if choices else "")
            + f"`qwen35 plan {subject.argument}` shows the parts; {names.memory} overrides what there is."
        )

    def _fits_processor(self, subject: Subject) -> bool:
        """What does not fit a card may fit this machine's own memory."""
        wish = self._wish
        if wish.memory_bytes is not None or _core.device_memory(wish.device).is_host:
            return False
        budget = machine.memory_budget("cpu")
        question = fit.Question(
            budget[0] if budget else 0, wish.context_tokens or None, wish.kv, parallel=wish.parallel
        )
        return question.plan(subject.on("cpu")).fits


def open_file(path: Path, notice: Callable[[str], None]) -> _core.GgufFile:
    """A file that is to be loaded. Raises FormatError when it is no model that can be run, OSError."""
    file = _core.GgufFile(path)
    if file.refusal is not None:
        raise FormatError(f"{path}: {file.refusal}")
    for text in file.notices:
        notice(text)
    return file


def notice_if_read(path: Path, model: _core.Model, notice: Callable[[str], None]) -> None:
    """Says that a model could not be mapped, which is slower."""
    if not model.was_mapped:
        notice(
            f"{path}: its file system cannot map files into memory; the model was read instead, which is the same but "
            "slower to start"
        )


def converted(
    found: Checkpoint, notice: Callable[[str], None], progress: Callable[[TensorProgress], None] | None = None
) -> Path:
    """The GGUF of a checkpoint; it is made once, into the cache. Raises what `convert` raises."""
    if not found.cached.is_file():
        found.cached.parent.mkdir(parents=True, exist_ok=True)
        report = convert(found.folder, found.cached, found.type, progress=progress)
        for warning in report.warnings:
            notice(warning)
    return found.cached


def local_path(name: str | None, notice: Callable[[str], None]) -> Path:
    """The GGUF of a name, path or nothing (the embedded model), converted if that was not done yet. Raises InputError
    for what is not on this disk, and what `convert` raises."""
    found = resolve(name, convertible=FILE_TYPES)
    if isinstance(found, Absent):
        raise InputError(f"{name}: {found.problem or 'not on this disk'}; `qwen35 pull {found.name}` downloads it")
    return converted(found, notice) if isinstance(found, Checkpoint) else found.path
