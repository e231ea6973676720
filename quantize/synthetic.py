"""Models of the family's exact shapes with random weights, for measuring speed before downloading anything.

A tensor's bytes are a pattern of properly encoded blocks over and over, so that a model of any size comes from a few
megabytes: in memory through a header that lists the tensors, or as a whole file for another program to read.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.errors import InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES
from qwen35_local.models.tensors import tensor_table
from qwen35_local.partial_file import PartialFile
from qwen35_local.progress import Progress
from qwen35_local.quantize import recipe, writer
from qwen35_local.quantize.metadata import file_metadata

# Prime, so that rows of a matrix begin at different places of the pattern.
_PATTERN_BLOCKS = 4099
_PATTERN_VALUES = 65537
_SPREAD = 0.02  # of a weight matrix before training
_PIECE_BYTES = 1 << 22
# Drawn value by value: what a pattern would make wrong (experts that are alike, memories that never fade) or is small.
_OWN = ("norm.weight", "ssm_a", "ssm_dt.bias", "ssm_conv1d.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")


@dataclass(frozen=True, slots=True)
class SyntheticTensor:
    """A tensor to be filled: shape slowest dimension first, type as GGUF spells it."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def n_bytes(self) -> int:
        block, block_bytes = _core.block_types()[self.dtype]
        return math.prod(self.shape) // block * block_bytes


@dataclass(frozen=True)
class Synthetic:
    """A model that can be loaded with `_core.Model(header, tensors=synthetic.pattern)`, or written whole."""

    name: str
    size: str
    config: ModelConfig
    preset: str
    tensors: tuple[SyntheticTensor, ...]
    _by_name: dict[str, SyntheticTensor] = field(repr=False)
    _blocks: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    @property
    def n_bytes(self) -> int:
        """Bytes of tensor data."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def peak_bytes(self) -> int:
        """With what loading takes for a moment: one filled pattern per type, as long as its longest tensor."""
        longest: dict[str, int] = {}
        for tensor in self.tensors:
            longest[tensor.dtype] = max(longest.get(tensor.dtype, 0), tensor.n_bytes)
        return self.n_bytes + sum(longest.values())

    @property
    def n_values(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    def pattern(self, name: str) -> NDArray[np.uint8]:
        """The bytes that the tensor repeats until it is full; the same for every call."""
        tensor = self._by_name[name]
        if name.endswith(_OWN):
            return _core.encode(_values(name, tensor.shape), tensor.dtype).reshape(-1)
        if tensor.dtype not in self._blocks:
            self._blocks[tensor.dtype] = _random_blocks(tensor.dtype)
        return self._blocks[tensor.dtype]

    def write_header(self, path: Path) -> None:
        """A GGUF that ends behind its tensor directory. Raises OSError, InputError."""
        with PartialFile(path) as file:
            writer.begin(file, self._metadata(), self.tensors)
            file.commit()

    def write(self, path: Path, progress: Progress | None = None) -> None:
        """The whole file; `progress` is given the bytes done and all of them. Raises OSError, InputError."""
        done = 0
        with PartialFile(path) as file:
            stream = writer.begin(file, self._metadata(), self.tensors)
            for tensor in self.tensors:
                for piece in _repeated(self.pattern(tensor.name), tensor.n_bytes):
                    stream.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done, self.n_bytes)
                stream.end_tensor(tensor.n_bytes)
            file.commit()

    def _metadata(self) -> dict[str, object]:
        """What both loaders ask for; the vocabulary is a number of rows without a tokenizer."""
        model = dict(self.config.to_gguf())
        return {
            "general.architecture": model.pop("general.architecture"),
            "general.type": "model",
            "general.name": f"{self.name} (random weights)",
            "general.parameter_count": self.n_values,
            **file_metadata(self.preset),
            **model,
            f"{self.config.architecture}.vocab_size": self.config.vocabulary,
            "tokenizer.ggml.model": "no_vocab",
        }


def size_names() -> list[str]:
    """What `synthetic` takes before the colon."""
    return [_short(name) for name in SIZES]


def synthetic(text: str, preset: str = recipe.DEFAULT_TYPE, *, drafts: bool = False) -> Synthetic:
    """`text` is SIZE or SIZE:LAYERS as in "9b" and "35b-a3b:8"; with `drafts` it has its MTP block. Raises
    InputError."""
    size, colon, layers = text.lower().partition(":")
    found = {_short(name): (name, entry.config) for name, entry in SIZES.items()}.get(size)
    if found is None:
        raise InputError(f"no size {size!r}; expected one of {', '.join(size_names())}, or with layers as in 9b:8.")
    name, config = found
    if not drafts:
        config = replace(config, mtp_layers=0)
    if colon:
        interval = config.full_attention_interval
        count = int(layers) if layers.isascii() and layers.isdecimal() else 0
        if not 0 < count <= config.layers or count % interval:
            raise InputError(
                f"{layers!r} layers of {name}; expected a multiple of {interval} (three layers of memory and one of "
                f"attention) up to its {config.layers}."
            )
        config = replace(config, layers=count)
    return of_config(f"{name}:{layers}" if colon else name, config, preset, size=size)


def of_config(name: str, config: ModelConfig, preset: str, *, size: str = "") -> Synthetic:
    """Any model of the family. Raises InputError for an unknown type."""
    preset = preset.upper()
    listed = [(spec.name, spec.shape) for spec in tensor_table(config)]
    model = recipe.Model.of(config)
    types = recipe.assign(listed, preset, model)
    tensors = tuple(SyntheticTensor(name, shape, types[name]) for name, shape in listed)
    return Synthetic(name, size, config, preset, tensors, {tensor.name: tensor for tensor in tensors})


def _short(name: str) -> str:
    return name.lower().removeprefix("qwen3.5-")


def _random_blocks(dtype: str) -> NDArray[np.uint8]:
    block, _ = _core.block_types()[dtype]
    shape = (1, _PATTERN_VALUES) if block == 1 else (_PATTERN_BLOCKS, block)
    values = np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(_SPREAD)
    return _core.encode(values, dtype).reshape(-1)


def _values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Of the sizes that trained models have: memories that fade over a few to a few hundred tokens, scores of a router
    that differ by about one."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("ssm_a"):
        values = -np.exp(random.uniform(-3.0, 1.0, shape))
    elif name.endswith("ssm_dt.bias"):
        values = random.uniform(-4.0, 0.5, shape)
    elif name.endswith("norm.weight"):
        values = np.ones(shape)
    elif name.endswith("ssm_conv1d.weight"):
        values = 0.5 * random.standard_normal(shape)
    else:
        values = random.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
    return np.ascontiguousarray(values, np.float32)


def _repeated(pattern: NDArray[np.uint8], n_bytes: int) -> Iterator[memoryview]:
    """`n_bytes` in pieces: the pattern over and over."""
    whole = max(1, min(_PIECE_BYTES, n_bytes) // pattern.size) * pattern.size
    piece = np.tile(pattern, whole // pattern.size) if whole > pattern.size else pattern
    for at in range(0, n_bytes, whole):
        yield piece.data[: min(whole, n_bytes - at)]
