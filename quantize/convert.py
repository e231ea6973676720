"""`convert`: a checkpoint folder or a GGUF in, a quantised GGUF out, all of it or nothing."""

import contextlib
import errno
import hashlib
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen35_local import __version__, _core
from qwen35_local.errors import FormatError, InputError
from qwen35_local.partial_file import PartialFile, check_target, remove_stale
from qwen35_local.quantize import sensitivity, writer
from qwen35_local.quantize.calibrate import (
    DEFAULT_MEMORY,
    Calibrator,
    Texts,
    TextsFor,
    estimated_seconds,
)
from qwen35_local.quantize.encode import Encoder, Encoding, ImportanceOf, usable_cores
from qwen35_local.quantize.importance import Importance
from qwen35_local.quantize.kept import KeptTensors
from qwen35_local.quantize.llama_types import layer_of
from qwen35_local.quantize.plan import Plan, PlannedTensor
from qwen35_local.quantize.recipe import DEFAULT_TYPE, Mixture, Recipe, file_type, largest_preset_within
from qwen35_local.quantize.report import Report, TensorReport, peak_memory
from qwen35_local.quantize.rows import RowReader
from qwen35_local.quantize.solve import Outcome, Solver
from qwen35_local.quantize.source import plan_of

_SPARE_BYTES = 16 << 20  # left free on the disk
_ROOM = 0.8  # of the free memory


@dataclass(frozen=True, slots=True)
class TensorProgress:
    """How far a conversion is: the tensor in progress (`index` from 0 of `count`) and the source bytes read so far."""

    tensor: str
    index: int
    count: int
    done_bytes: int
    total_bytes: int


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    type: str = DEFAULT_TYPE,
    *,
    name: str | None = None,
    progress: Callable[[TensorProgress], None] | None = None,
    dry_run: bool = False,
    threads: int = 0,
    overwrite: bool = False,
    allow_requantize: bool = False,
    recipe: Recipe = "qwen35",
    types: Mapping[str, str] | None = None,
    target_bytes: int | None = None,
    target_bpw: float | None = None,
    texts: TextsFor | None = None,
    importance: Importance | None = None,
    memory: int = DEFAULT_MEMORY,
    room: int | None = None,
    announce: Callable[[int, float], None] | None = None,
) -> Report:
    """Converts `source`, a Hugging Face folder or a GGUF, to the preset `type`, one of `FILE_TYPES`.

    `name`: the model's, written into the file; default the repository's or the folder's. `out`: a path, or a folder to
    put `<Model>-<type>.gguf` in; default the current folder. `progress` is called after every slice, in this thread.
    `threads` 0: as many as this process may use. `allow_requantize`: accept a GGUF of lower precision than `type`, and
    a checkpoint whose norms another tool rounded. `recipe`: "llama" gives the types of llama.cpp's own tool. `types`:
    patterns of tensor names to types. `target_bytes` of all tensors, or `target_bpw` bits per weight, choose types for
    that size. `texts` makes what to calibrate with: the matrices of the layers are then rounded for the least error of
    what they compute of such texts; an interrupted conversion with texts is gone on with by the same call.
    `importance`: weighs errors by column instead. `memory`: bytes that layers in work may take with their moments.
    `room`: bytes that the whole model may take, to measure what it loses where a target is to be met; None: most of
    those that are free. `announce` is given the tokens of the texts and about how many seconds they take, before the
    first. The output appears under its name only when it is complete. Raises Qwen35Error (bad input, nothing written)
    and passes on KeyboardInterrupt."""
    started = time.monotonic()
    source_path, preset = Path(source), type.upper()
    mixture = _mixture(preset, recipe, types, target_bytes, target_bpw)
    if threads < 0:
        raise InputError(f"threads is {threads}; expected 0 (all) or a positive number.")
    own_name, plan = plan_of(source_path, mixture, allow_requantize)
    plan.metadata["general.name"] = name = name or own_name
    target = _target(out, name, preset)
    check_target(target, plan.files, overwrite=overwrite or dry_run)
    written = _Written()
    if not dry_run:
        _check_space(target, _file_bytes(plan) * (2 if texts else 1))
        given = _texts(plan, texts)
        if given is not None and announce is not None:
            announce(given.count, _seconds(plan, given, threads, is_measured=mixture.has_target))
        if mixture.has_target:
            mixture = _as_measured(mixture, source_path, plan, given, target.parent, room, threads, progress)
            warnings = plan.warnings
            _, plan = plan_of(source_path, mixture, allow_requantize)
            plan.warnings[:] = warnings
            plan.metadata["general.name"] = name
        written = _write(plan, target, progress, threads, given, memory, importance)
    seconds = 0.0 if dry_run else time.monotonic() - started
    return _report(plan, written, source_path, target, mixture.preset, seconds, is_dry_run=dry_run)


def _report(
    plan: Plan, written: "_Written", source: Path, target: Path, preset: str, seconds: float, *, is_dry_run: bool
) -> Report:
    return Report(
        source=source,
        path=target,
        file_type=preset,
        name=str(plan.metadata["general.name"]),
        tensors=written.reports(plan),
        source_bytes=sum(tensor.source_bytes for tensor in plan.tensors),
        file_bytes=written.file_bytes or _file_bytes(plan),
        vision=plan.vision,
        warnings=plan.warnings,
        seconds=seconds,
        peak_bytes=0 if is_dry_run else peak_memory(),
        is_dry_run=is_dry_run,
    )


def _mixture(
    preset: str,
    recipe: Recipe,
    types: Mapping[str, str] | None,
    target_bytes: int | None,
    target_bpw: float | None,
) -> Mixture:
    file_type(preset)
    if target_bytes is not None and target_bpw is not None:
        raise InputError("a target in bytes and one in bits per weight were given; give one of them.")
    return Mixture(preset, recipe, types or {}, target_bytes, target_bpw)


def _texts(plan: Plan, texts: TextsFor | None) -> Texts | None:
    given = None if texts is None else texts(plan)
    if texts is not None and given is None:
        plan.warnings.append("not calibrated: the model's tokenizer cannot write the texts of this program")
    return given


def _seconds(plan: Plan, texts: Texts, threads: int, *, is_measured: bool) -> float:
    cores = threads or usable_cores()
    measuring = sensitivity.estimated_seconds(plan, texts.calibration, cores) if is_measured else 0.0
    return measuring + estimated_seconds(plan, texts.count, cores)


def _as_measured(
    mixture: Mixture,
    source: Path,
    plan: Plan,
    texts: Texts | None,
    folder: Path,
    room: int | None,
    threads: int,
    progress: Callable[[TensorProgress], None] | None,
) -> Mixture:
    """The mixture by what this model loses, where that can be measured and the model then loses less than by what
    others lose, and than with a preset of that size. The plan's warnings say why it was not measured."""
    prior = "types are chosen by what other models of the family lose"
    if texts is None:
        plan.warnings.append(f"{prior}: this one is measured where it is calibrated")
        return mixture
    _, exact = plan_of(source, Mixture("BF16"), allow_requantize=True)
    exact.metadata["general.name"] = plan.metadata["general.name"]
    needed = sensitivity.bytes_of_run(exact)
    if room is None:
        room = int(_ROOM * _core.device_memory("cpu").free)
    if needed > room:
        plan.warnings.append(
            f"{prior}: to measure this one {needed / 1e9:,.1f} GB of memory are needed, and there are {room / 1e9:,.1f}"
        )
        return mixture

    def show(kind: str, index: int, count: int) -> None:
        if progress is not None:
            total = sum(tensor.source_bytes for tensor in plan.tensors)
            progress(TensorProgress(f"trying {kind}", index, count, 0, total))

    reader = RowReader()
    with (
        contextlib.closing(reader),
        contextlib.closing(Encoder(reader, threads)) as encoder,
        tempfile.TemporaryDirectory(dir=folder, prefix=".qwen35-measured-") as own,
    ):
        measurement = sensitivity.Measurement(exact, encoder, texts.calibration, Path(own), threads=threads)
        measured = replace(mixture, sensitivity=measurement.by_kind(show))
        tensors = [(tensor.name, tensor.shape) for tensor in exact.tensors]
        candidates = [measured, mixture, *largest_preset_within(mixture, tensors, exact.model)]
        return min(candidates, key=lambda each: measurement.loss(each.assign(tensors, exact.model)))


def _file_bytes(plan: Plan) -> int:
    return writer.metadata_bytes(plan.metadata) + writer.data_bytes(plan.tensors)


def _target(out: str | os.PathLike[str] | None, name: str, preset: str) -> Path:
    default = re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"
    target = Path(f"{default}-{preset}.gguf") if out is None else Path(out)
    if out is not None and target.is_dir():
        target = target / f"{default}-{preset}.gguf"
    return target.absolute()


def _check_space(target: Path, needed: int) -> None:
    remove_stale(target.parent)
    free = shutil.disk_usage(target.parent).free
    if free < needed + _SPARE_BYTES:
        raise InputError(
            f"{target.parent}: {needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free; make room or write "
            "to another disk."
        )


@dataclass(slots=True)
class _Written:
    """Of a file that was written: its bytes and, by tensor, the relative error and what calibration did."""

    file_bytes: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def reports(self, plan: Plan) -> list[TensorReport]:
        return [
            TensorReport(t.name, t.dtype, t.n_values, t.n_bytes, self.errors.get(t.name), self.outcomes.get(t.name))
            for t in plan.tensors
        ]


def _write(
    plan: Plan,
    target: Path,
    progress: Callable[[TensorProgress], None] | None,
    threads: int,
    texts: Texts | None,
    memory: int,
    importance: Importance | None,
) -> _Written:
    reader, count = RowReader(), _Count(plan, progress)
    weigh = None if importance is None else _weights_of(importance)
    try:
        with contextlib.closing(reader), contextlib.closing(Encoder(reader, threads, weigh)) as encoder:
            if texts is None:
                return _write_file(plan, target, encoder, count)
            return _write_calibrated(plan, target, encoder, count, texts, memory, threads)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error.strerror
        left = "nothing was left behind" if texts is None else "what is done is kept for the same command"
        raise InputError(f"{target}: not written, {reason}; {left}.") from error


def _weights_of(importance: Importance) -> ImportanceOf:
    def weigh(tensor: PlannedTensor, expert: int) -> NDArray[np.float32] | None:
        # The output is what every token needs: what few texts happen to ask of it says little.
        found = None if tensor.name == "output.weight" else importance.of(tensor.name, tensor.experts, tensor.cols)
        return None if found is None else np.ascontiguousarray(found.means[expert])

    return weigh


def _write_calibrated(
    plan: Plan, target: Path, encoder: Encoder, count: "_Count", texts: Texts, memory: int, threads: int
) -> _Written:
    plan.tensors.sort(key=lambda tensor: layer_of(tensor.name))  # stable; -1 comes first
    kept = KeptTensors(target, _identity(plan, texts))
    calibrator = Calibrator(plan, encoder, texts, kept.folder, memory=memory, threads=threads)
    count.expect(texts.count * len(calibrator.groups))
    solver = Solver(encoder, calibrator, kept, progress=count.add_tokens, threads=threads)
    try:
        written = _write_file(plan, target, solver, count)
    except (FormatError, InputError):  # it would come again
        kept.remove()
        raise
    written.outcomes = solver.outcomes
    kept.remove()
    return written


def _identity(plan: Plan, texts: Texts) -> dict[str, object]:
    """What tells a conversion from all that would give other bytes."""
    files = {str(run.entry.path): run.entry.path.stat() for tensor in plan.tensors for run in tensor.runs}
    return {
        "version": __version__,
        "sources": {path: [stat.st_size, stat.st_mtime_ns] for path, stat in files.items()},
        "tensors": {tensor.name: tensor.dtype for tensor in plan.tensors},
        "texts": [hashlib.sha256(part.tobytes()).hexdigest() for part in (texts.calibration, texts.held_out)],
        "length": texts.length,
    }


def _write_file(plan: Plan, target: Path, encoding: Encoding, count: "_Count") -> _Written:
    """Writes the file with blocks of this encoding."""
    with PartialFile(target) as file:
        stream = writer.begin(file, plan.metadata, plan.tensors)
        errors = _write_tensors(plan.tensors, stream, encoding, count)
        size = file.seek_end()
        _verify(file.path, plan)
        file.commit()
    return _Written(size, errors)


def _write_tensors(
    tensors: list[PlannedTensor], stream: writer.GgufStream, encoding: Encoding, count: "_Count"
) -> dict[str, float]:
    """Returns the relative error by tensor."""
    errors = {}
    for index, tensor in enumerate(tensors):
        count.begin(tensor, index)
        power = error = 0.0
        for part in encoding.encode(tensor):
            stream.write(part.data.data)
            power, error = power + part.power, error + part.error
            count.add_bytes(part.source_bytes)
        stream.end_tensor(tensor.n_bytes)
        errors[tensor.name] = math.sqrt(error / power) if power > 0 else 0.0
    return errors


class _Count:
    """How far a conversion is. Running the texts counts as much as reading the source."""

    def __init__(self, plan: Plan, progress: Callable[[TensorProgress], None] | None) -> None:
        self._progress = progress
        self._tensors = len(plan.tensors)
        self._source_bytes = self._total = sum(tensor.source_bytes for tensor in plan.tensors)
        self._tensor, self._index, self._done, self._token_bytes = "", 0, 0.0, 0.0

    def expect(self, tokens: int) -> None:
        self._token_bytes = self._source_bytes / max(tokens, 1)
        self._total = 2 * self._source_bytes

    def begin(self, tensor: PlannedTensor, index: int) -> None:
        self._tensor, self._index = tensor.name, index

    def add_tokens(self, tokens: int) -> None:
        self._add(tokens * self._token_bytes)

    def add_bytes(self, n_bytes: int) -> None:
        self._add(n_bytes)

    def _add(self, n_bytes: float) -> None:
        self._done += n_bytes
        if self._progress is not None:
            self._progress(TensorProgress(self._tensor, self._index, self._tensors, round(self._done), self._total))


def _verify(path: Path, plan: Plan) -> None:
    """Opens what was written as the runtime will."""
    written = [(t.name, t.dtype, t.shape, t.n_bytes) for t in _core.GgufFile(path).tensors]
    if written != [(t.name, t.dtype, t.shape, t.n_bytes) for t in plan.tensors]:
        raise FormatError(f"{path}: does not read back as it was written; the disk or the file system is faulty.")
