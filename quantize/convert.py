"""`convert`: a checkpoint folder or a GGUF in, a quantised GGUF out, all of it or nothing."""

import errno
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen35_local import _core
from qwen35_local.errors import FormatError, InputError
from qwen35_local.partial_file import PartialFile, remove_stale
from qwen35_local.quantize import recipe, writer
from qwen35_local.quantize.checkpoint import open_checkpoint
from qwen35_local.quantize.encode import Encoder
from qwen35_local.quantize.gguf_source import open_gguf, plan_gguf
from qwen35_local.quantize.metadata import checkpoint_metadata
from qwen35_local.quantize.plan import Plan, PlannedTensor, plan_checkpoint
from qwen35_local.quantize.report import Report, TensorReport, peak_memory
from qwen35_local.quantize.rows import RowReader

_SPARE_BYTES = 16 << 20  # left free on the disk


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
    type: str = recipe.DEFAULT_TYPE,
    *,
    name: str | None = None,
    progress: Callable[[TensorProgress], None] | None = None,
    dry_run: bool = False,
    threads: int = 0,
    overwrite: bool = False,
    allow_requantize: bool = False,
) -> Report:
    """Converts `source`, a Hugging Face folder or a GGUF, to the preset `type`, one of `recipe.FILE_TYPES`.

    `name`: the model's, written into the file; default the repository's or the folder's. `out`: a path, or a folder to
    put `<Model>-<type>.gguf` in; default the current folder. `progress` is called after every slice, in this thread.
    `threads` 0: as many as this process may use. `allow_requantize`: accept a GGUF of lower precision than `type`, and
    a checkpoint whose norms another tool rounded. The output appears under its name only when it is complete. Raises
    Qwen35Error (bad input, nothing written) and passes on KeyboardInterrupt."""
    started = time.monotonic()
    source_path = Path(source)
    preset = type.upper()
    recipe.file_type(preset)
    if threads < 0:
        raise InputError(f"threads is {threads}; expected 0 (all) or a positive number.")
    own_name, plan = _plan(source_path, preset, allow_requantize)
    name = name or own_name
    plan.metadata["general.name"] = name
    target = _target(out, name, preset)
    _check_target(target, source_path, plan, overwrite=overwrite or dry_run)
    errors: dict[str, float] = {}
    file_bytes = writer.metadata_bytes(plan.metadata) + writer.data_bytes(plan.tensors)
    if not dry_run:
        _check_space(target, file_bytes)
        errors, file_bytes = _write(plan, target, progress, threads)
    return Report(
        source=source_path,
        path=target,
        file_type=preset,
        name=name,
        tensors=[TensorReport(t.name, t.dtype, t.n_values, t.n_bytes, errors.get(t.name)) for t in plan.tensors],
        source_bytes=sum(tensor.source_bytes for tensor in plan.tensors),
        file_bytes=file_bytes,
        vision=plan.vision,
        warnings=plan.warnings,
        seconds=0.0 if dry_run else time.monotonic() - started,
        peak_bytes=0 if dry_run else peak_memory(),
        is_dry_run=dry_run,
    )


def _plan(source: Path, preset: str, allow_requantize: bool) -> tuple[str, Plan]:
    if source.is_dir():
        checkpoint = open_checkpoint(source, allow_rounded=allow_requantize)
        return checkpoint.name, plan_checkpoint(
            checkpoint, preset, checkpoint_metadata(checkpoint, preset, checkpoint.name)
        )
    if source.is_file():
        if source.suffix == ".safetensors":
            raise InputError(f"{source}: give the folder of the checkpoint, not one of its files.")
        gguf = open_gguf(source)
        return gguf.name, plan_gguf(gguf, preset, allow_requantize=allow_requantize)
    raise InputError(f"{source}: no such folder or file; expected a Hugging Face checkpoint folder or a GGUF.")


def _target(out: str | os.PathLike[str] | None, name: str, preset: str) -> Path:
    default = re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"
    target = Path(f"{default}-{preset}.gguf") if out is None else Path(out)
    if out is not None and target.is_dir():
        target = target / f"{default}-{preset}.gguf"
    return target.absolute()


def _check_target(target: Path, source: Path, plan: Plan, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise InputError(f"{target.parent}: no such folder; create it first.")
    if not target.exists():
        return
    read = {run.entry.path for tensor in plan.tensors for run in tensor.runs}
    if any(target.samefile(path) for path in read if path.exists()):
        raise InputError(f"{target}: is the source {source} itself; choose another name for the output.")
    if not target.is_file():
        raise InputError(f"{target}: exists and is not a file.")
    if not overwrite:
        raise InputError(f"{target}: exists; choose another name, or replace it with --force.")


def _check_space(target: Path, needed: int) -> None:
    remove_stale(target.parent)
    free = shutil.disk_usage(target.parent).free
    if free < needed + _SPARE_BYTES:
        raise InputError(
            f"{target.parent}: {needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free; make room or write "
            "to another disk."
        )


def _write(
    plan: Plan, target: Path, progress: Callable[[TensorProgress], None] | None, threads: int
) -> tuple[dict[str, float], int]:
    """Writes the file; returns the relative error by tensor and the bytes of the file."""
    reader = RowReader()
    try:
        with PartialFile(target) as file:
            encoder = Encoder(reader, threads)
            try:
                stream = writer.begin(file, plan.metadata, plan.tensors)
                errors = _write_tensors(plan.tensors, stream, encoder, progress)
            finally:
                encoder.close()
            size = file.seek_end()
            _verify(file.path, plan)
            file.commit()
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error.strerror
        raise InputError(f"{target}: not written, {reason}; nothing was left behind.") from error
    finally:
        reader.close()
    return errors, size


def _write_tensors(
    tensors: list[PlannedTensor],
    stream: writer.GgufStream,
    encoder: Encoder,
    progress: Callable[[TensorProgress], None] | None,
) -> dict[str, float]:
    total, done = sum(tensor.source_bytes for tensor in tensors), 0
    errors = {}
    for index, tensor in enumerate(tensors):
        power = error = 0.0
        for part in encoder.encode(tensor):
            stream.write(part.data.data)
            power, error, done = power + part.power, error + part.error, done + part.source_bytes
            if progress is not None:
                progress(TensorProgress(tensor.name, index, len(tensors), done, total))
        stream.end_tensor(tensor.n_bytes)
        errors[tensor.name] = math.sqrt(error / power) if power > 0 else 0.0
    return errors


def _verify(path: Path, plan: Plan) -> None:
    """Opens what was written as the runtime will."""
    written = [(t.name, t.dtype, t.shape, t.n_bytes) for t in _core.GgufFile(path).tensors]
    if written != [(t.name, t.dtype, t.shape, t.n_bytes) for t in plan.tensors]:
        raise FormatError(f"{path}: does not read back as it was written; the disk or the file system is faulty.")
