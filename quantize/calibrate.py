"""Second moments of what a model's matrices multiply, measured by running texts through it some layers at a time.

No more than those layers are in memory, encoded as Q8_0, with the moments of their inputs; the rows that leave them
wait in a file for the next. Each layer is run once.
"""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.partial_file import PartialFile
from qwen35_local.quantize import recipe, writer
from qwen35_local.quantize.encode import Encoder
from qwen35_local.quantize.llama_types import layer_of
from qwen35_local.quantize.plan import Plan, PlannedTensor

_RUN_TYPE = "Q8_0"
_ROWS_AT_A_TIME = 2048
DEFAULT_MEMORY = 3 << 28  # bytes: with the rest of the process under 2 GiB for a model of 0.8B
_PARTS = 2  # what is calibrated with, and what is held out

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Texts:
    """Token ids [texts, length], all of one length: to calibrate with, and held out to judge by."""

    calibration: NDArray[np.int32]
    held_out: NDArray[np.int32]

    @property
    def length(self) -> int:
        return int(self.calibration.shape[1])

    @property
    def count(self) -> int:
        """Tokens, held out or not."""
        return self.calibration.size + self.held_out.size


# What a text is made of depends on the model's own tokenizer and template, which its metadata hold, and how much of it
# on its size. None goes without.
TextsFor = Callable[[Plan], Texts | None]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers [first, first + count)."""

    first: int
    count: int

    @property
    def end(self) -> int:
        return self.first + self.count


class Moments:
    """What was measured in a group of layers."""

    def __init__(self, measured: "_core.Calibration", threads: int = 0) -> None:
        self._measured = measured
        self._threads = threads
        self._experts = {name: experts for names, _, experts in measured.inputs for name in names}
        self._inputs = {name: names[0] for names, _, _ in measured.inputs for name in names}
        self._factor: tuple[tuple[str, int], _core.Factor] | None = None
        self._mean: dict[str, Floats] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._experts

    def factor(self, name: str, expert: int) -> "_core.Factor":
        """Of the inputs of a tensor's matrix. One that other matrices share is factored once, if they come next."""
        key = (self._inputs[name], self._of(name, expert))
        if self._factor is None or self._factor[0] != key:
            self._factor = None  # before the next takes memory
            self._factor = (key, _core.Factor(*self._blended(name, expert), threads=self._threads))
        return self._factor[1]

    def seen(self) -> Iterable[tuple[str, list[tuple[Floats, float]]]]:
        """Every tensor with what was measured of its inputs, and over how many rows: once, or for each expert."""
        for name, experts in self._experts.items():
            yield name, [self._measured.moments(name, expert=expert) for expert in range(experts)]

    def mean_squares(self, name: str, expert: int) -> Floats:
        """The diagonal of the moments, [cols]."""
        return np.ascontiguousarray(self._blended(name, expert)[0].diagonal())

    def held_out(self, name: str, expert: int) -> Floats:
        """Moments [cols, cols] of the held-out texts."""
        return self._blended(name, expert, part=1)[0]

    def _of(self, name: str, expert: int) -> int:
        return expert if self._experts[name] > 1 else 0

    def _blended(self, name: str, expert: int, part: int = 0) -> tuple[Floats, float]:
        """Moments and how many rows they are worth. An expert that saw few rows takes the rest from all experts."""
        own, rows = self._measured.moments(name, part=part, expert=self._of(name, expert))
        if self._experts[name] == 1:
            return own, rows
        cols = own.shape[0]
        share = rows / (rows + cols / 2)
        own *= np.float32(share)
        own += np.float32(1 - share) * self._all_experts(name, part)
        return own, rows + cols / 2

    def _all_experts(self, name: str, part: int) -> Floats:
        key = f"{part}/{name}"
        if key not in self._mean:
            total: Floats | None = None
            count = 0.0
            for expert in range(self._experts[name]):
                own, rows = self._measured.moments(name, part=part, expert=expert)
                own *= np.float32(rows)
                total, count = own if total is None else total + own, count + rows
            assert total is not None
            self._mean = {key: total / np.float32(max(count, 1.0))}
        return self._mean[key]


class Calibrator:
    """Measures group after group, in order."""

    def __init__(
        self,
        plan: Plan,
        encoder: Encoder,
        texts: Texts,
        folder: Path,
        *,
        memory: int = DEFAULT_MEMORY,
        threads: int = 0,
        diagonal: bool = False,
    ) -> None:
        """`folder`: for the rows between groups and the list of tensors. `memory`: bytes that the layers of a group
        and their moments may take; a group is one layer at least. `diagonal`: of the moments, mean squares alone."""
        self._diagonal = diagonal
        self._encoder = encoder
        self._texts = texts
        self._folder = folder
        self._threads = threads
        self._tensors = _as_run(plan)
        self._header = folder / "calibration.gguf"
        architecture = plan.metadata["general.architecture"]
        self._width = int(str(plan.metadata[f"{architecture}.embedding_length"]))
        layers = int(str(plan.metadata[f"{architecture}.block_count"])) - int(
            str(plan.metadata.get(f"{architecture}.nextn_predict_layers", 0))
        )
        self.groups = _groups(self._tensors.values(), layers, memory, diagonal=diagonal)
        with PartialFile(self._header) as file:
            writer.begin(file, plan.metadata, list(self._tensors.values()))
            file.commit()

    def group_of(self, tensor: str) -> LayerGroup | None:
        """The group whose measurement a tensor needs; None for one outside of the layers."""
        layer = layer_of(tensor)
        return next((group for group in self.groups if group.first <= layer < group.end), None)

    def measure(self, group: LayerGroup, progress: Callable[[int], None] | None = None) -> Moments:
        """Runs the texts through a group. What comes into it is what the group before it left in the folder, now or in
        a run before; where a run before had other groups, those that lead to it are run again. `progress` is given the
        tokens of each step."""
        if group.first and not self._path(group.first).exists():
            self.measure(next(each for each in self.groups if each.end == group.first), progress)
        texts = np.concatenate([self._texts.calibration, self._texts.held_out])
        before = self._incoming(group.first)
        at_a_time = max(1, _ROWS_AT_A_TIME // self._texts.length)
        run = _core.Calibration(
            self._header,
            tensors=self._encoded,
            first=group.first,
            count=group.count,
            texts=at_a_time,
            length=self._texts.length,
            diagonal=self._diagonal,
            threads=self._threads,
        )
        shape = (len(texts), self._texts.length, self._width)
        with PartialFile(self._path(group.end)) as after:  # written, not mapped: a full disk is then an error
            after.write(_npy_header(shape))
            for first, end, part in self._steps(at_a_time):
                x = np.zeros((end - first, *shape[1:]), np.float32) if before is None else np.array(before[first:end])
                run.run(texts[first:end], x, into=part)
                after.write(x.reshape(-1).view(np.uint8).data)
                if progress is not None:
                    progress((end - first) * self._texts.length)
            after.commit()
        return Moments(run, self._threads)

    def forget(self, group: LayerGroup) -> None:
        """The rows that came into a group are not needed any more."""
        self._path(group.first).unlink(missing_ok=True)

    def _steps(self, at_a_time: int) -> Iterable[tuple[int, int, int]]:
        """(first text, end, part): never of two parts at once."""
        split = len(self._texts.calibration)
        for part, (begin, stop) in enumerate(((0, split), (split, split + len(self._texts.held_out)))):
            for first in range(begin, stop, at_a_time):
                yield first, min(first + at_a_time, stop), part

    def _encoded(self, name: str) -> NDArray[np.uint8]:
        return np.concatenate([part.data for part in self._encoder.encode(self._tensors[name])])

    def _path(self, layer: int) -> Path:
        return self._folder / f"rows-{layer}.npy"

    def _incoming(self, layer: int) -> Floats | None:
        """What comes into a layer [texts, length, D], in a file; None for the first, which embeds the tokens."""
        return None if layer == 0 else np.lib.format.open_memmap(self._path(layer), "r")


def _npy_header(shape: tuple[int, int, int]) -> memoryview:
    """Of an .npy file of fp32 values."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getbuffer()


# Of one core, in products and sums a second: running layers in 8 bits, adding up moments, solving.
_RUN, _MOMENTS, _SOLVE = 3e11, 6e10, 7.5e10
_SWEEPS = 4  # what solving a matrix takes, in products of it with its moments


def estimated_seconds(plan: Plan, tokens: int, cores: int) -> float:
    """About how long calibrating takes."""
    seconds = 0.0
    for tensor in plan.tensors:
        if layer_of(tensor.name) < 0 or tensor.cols < 32 or tensor.name.endswith("norm.weight"):
            continue
        used = plan.model.share_of_experts if tensor.experts > 1 else 1.0
        seconds += 2 * tensor.n_values * used * tokens / _RUN
        seconds += 2 * tensor.n_values * tensor.cols * _SWEEPS / _SOLVE
        if _FIRST_OF_INPUT.fullmatch(tensor.name):
            seconds += tensor.cols**2 * tokens * max(used * tensor.experts, 1.0) / _MOMENTS
    return seconds / cores


DEFAULT_TOKENS, _FEWEST_TOKENS = 65536, 16384
HELD_OUT = 8  # one more text for so many
_SECONDS_PER_BILLION = 900.0  # on two cores, whatever this machine has: the bytes of a file do not depend on it


def default_tokens(plan: Plan) -> int:
    """How many tokens to calibrate with: as many as take no longer than _SECONDS_PER_BILLION weights."""
    cores = 2
    solving = estimated_seconds(plan, 0, cores)
    measuring = estimated_seconds(plan, DEFAULT_TOKENS * (HELD_OUT + 1) // HELD_OUT, cores) - solving
    room = _SECONDS_PER_BILLION * sum(tensor.n_values for tensor in plan.tensors) / 1e9 - solving
    return min(DEFAULT_TOKENS, max(_FEWEST_TOKENS, int(DEFAULT_TOKENS * room / measuring)))


def _as_run(plan: Plan) -> dict[str, PlannedTensor]:
    """The tensors as the texts meet them."""
    listed = [(t.name, t.shape) for t in plan.tensors]
    types = recipe.assign(listed, _RUN_TYPE, plan.model)
    return {t.name: replace(t, dtype=types[t.name]) for t in plan.tensors}


def _groups(tensors: Iterable[PlannedTensor], layers: int, memory: int, *, diagonal: bool) -> list[LayerGroup]:
    sizes = [0] * layers
    for tensor in tensors:
        layer = layer_of(tensor.name)
        if 0 <= layer < layers:
            sizes[layer] += tensor.n_bytes + (0 if diagonal else _moment_bytes(tensor))
    groups: list[LayerGroup] = []
    used = 0
    for layer, size in enumerate(sizes):
        if groups and used + size <= memory:
            groups[-1] = LayerGroup(groups[-1].first, groups[-1].count + 1)
            used += size
        else:
            groups.append(LayerGroup(layer, 1))
            used = size
    return groups


# One tensor for each distinct input of a layer.
_FIRST_OF_INPUT = re.compile(
    r"blk\.\d+\.(attn_qkv|attn_q|ssm_out|attn_output|ffn_gate(_exps)?|ffn_down(_exps|_shexp)?)\.weight"
)


def _moment_bytes(tensor: PlannedTensor) -> int:
    if not _FIRST_OF_INPUT.fullmatch(tensor.name):
        return 0
    experts = tensor.shape[0] if tensor.name.endswith("ffn_down_exps.weight") else 1
    return _PARTS * experts * tensor.cols * tensor.cols * 4
