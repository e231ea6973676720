"""What will be written: every tensor of the output with its type, its size and where its rows come from."""

from dataclasses import dataclass, field
from pathlib import Path

from qwen35_local import _core
from qwen35_local.models.tensors import Change, HeadTiling, tensor_table
from qwen35_local.quantize import recipe
from qwen35_local.quantize.checkpoint import Checkpoint
from qwen35_local.quantize.gains import Stored
from qwen35_local.quantize.rows import Run

Metadata = dict[str, object]


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor to write: [rows, cols] after flattening, gathered from `runs`, then changed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    cols: int
    runs: tuple[Run, ...]
    change: Change = Change.NONE
    tiling: HeadTiling | None = None  # of columns only; rows are tiled by the order of the runs

    @property
    def rows(self) -> int:
        return sum(run.count for run in self.runs)

    @property
    def experts(self) -> int:
        """How many matrices it holds."""
        return self.shape[0] if len(self.shape) == 3 and self.name.endswith("_exps.weight") else 1

    @property
    def n_values(self) -> int:
        return self.rows * self.cols

    @property
    def n_bytes(self) -> int:
        block, block_bytes = _core.block_types()[self.dtype]
        return self.n_values // block * block_bytes

    @property
    def source_bytes(self) -> int:
        """Bytes that will be read for it."""
        return sum(run.entry.n_bytes * run.count * self.cols // run.entry.n_values for run in self.runs)

    @property
    def is_copied(self) -> bool:
        """Whether the bytes are taken over as they are."""
        same = all(run.entry.dtype == self.dtype for run in self.runs)
        return same and self.change is Change.NONE and self.tiling is None


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole output file."""

    metadata: Metadata
    tensors: list[PlannedTensor]
    model: recipe.Model
    vision: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        """Bytes of tensor data."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def files(self) -> set[Path]:
        """Those that the tensors are read from."""
        return {run.entry.path for tensor in self.tensors for run in tensor.runs}


def plan_checkpoint(checkpoint: Checkpoint, mixture: recipe.Mixture, metadata: Metadata) -> Plan:
    """The plan for a Hugging Face folder. Raises FormatError, InputError."""
    config = checkpoint.config
    table = tensor_table(config)
    model = recipe.Model.of(config)
    types = mixture.assign([(spec.name, spec.shape) for spec in table], model)
    tensors = []
    for spec in table:
        runs = checkpoint.runs(spec)
        rows = sum(run.count for run in runs)
        n_values = 1
        for size in spec.shape:
            n_values *= size
        columns = spec.tiling if spec.tiling and spec.tiling.axis == 1 else None
        is_done = spec.change is Change.PLUS_ONE and checkpoint.stored_gains is Stored.GAIN
        change = Change.NONE if is_done else spec.change
        tensors.append(PlannedTensor(spec.name, spec.shape, types[spec.name], n_values // rows, runs, change, columns))
    return Plan(metadata, tensors, model, checkpoint.vision, checkpoint.warnings)
