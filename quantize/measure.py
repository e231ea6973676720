"""An importance matrix of a model, measured here: what llama-imatrix makes, from texts of this package or one's own."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qwen35_local.partial_file import check_target
from qwen35_local.quantize import importance
from qwen35_local.quantize.calibrate import Calibrator, TextsFor
from qwen35_local.quantize.encode import Encoder
from qwen35_local.quantize.importance import Importance, Inputs
from qwen35_local.quantize.plan import Plan
from qwen35_local.quantize.recipe import Mixture
from qwen35_local.quantize.rows import RowReader
from qwen35_local.quantize.source import plan_of


def measure_importance(
    source: str | os.PathLike[str],
    out: Path,
    texts: TextsFor,
    *,
    dataset: str,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """Measures `source`, a Hugging Face folder or a GGUF, and writes `out`. `dataset` names the texts in the file.
    `progress` is given the tokens done, counted in each group of layers anew, and all of them. Raises Qwen35Error,
    OSError."""
    _, plan = plan_of(Path(source), Mixture("Q8_0"), allow_requantize=True)
    check_target(out.absolute(), plan.files)
    plan.metadata.setdefault("general.name", "model")
    given = texts(plan)
    assert given is not None, "whoever measures importance has texts"
    reader = RowReader()
    with (
        contextlib.closing(reader),
        contextlib.closing(Encoder(reader, threads)) as encoder,
        tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.") as folder,
    ):
        calibrator = Calibrator(plan, encoder, given, Path(folder), threads=threads, diagonal=True)
        found: dict[str, Inputs] = {}
        done, total = 0, given.count * len(calibrator.groups)

        def count(tokens: int) -> None:
            nonlocal done
            done += tokens
            if progress is not None:
                progress(done, total)

        for group in calibrator.groups:
            for name, measured in calibrator.measure(group, count).seen():
                found[name] = _inputs(plan, name, measured)
            calibrator.forget(group)
    result = Importance(found, [dataset], len(given.calibration), given.length)
    importance.write(out, result)
    return result


def _inputs(
    plan: Plan, name: str, measured: list[tuple["np.ndarray[tuple[int], np.dtype[np.float32]]", float]]
) -> Inputs:
    """llama-quantize wants a row for each expert, also of inputs that all share."""
    tensor = next(tensor for tensor in plan.tensors if tensor.name == name)
    if len(measured) < tensor.experts:
        measured = measured * tensor.experts
    means = np.stack([mean if rows else np.ones_like(mean) for mean, rows in measured])
    return Inputs(means, np.array([round(rows) for _, rows in measured], np.int64))
