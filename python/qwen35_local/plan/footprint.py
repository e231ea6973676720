"""What a model takes on a device, tensor by tensor and part by part: its shapes and types are enough, whether they come
from a GGUF, a checkpoint that is not converted yet or a published size."""

import math
from dataclasses import dataclass
from functools import cached_property

from qwen35_local import _core
from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.memory import Footprint, HostMemory, Memory

_BLOCKS = _core.block_types()
_SHAPE = (  # of ModelConfig: what decides how much memory a model takes
    "layers",
    "mtp_layers",
    "full_attention_interval",
    "hidden",
    "vocabulary",
    "heads",
    "kv_heads",
    "head_width",
    "delta_key_heads",
    "delta_value_heads",
    "delta_key_width",
    "delta_value_width",
    "conv_taps",
    "feed_forward",
    "experts",
    "experts_per_token",
    "expert_feed_forward",
    "shared_expert_feed_forward",
)
_VECTORS = ("norm.weight", "ssm_a", "ssm_dt.bias", "ssm_conv1d.weight")  # held as fp32, not packed
_FLOAT_BYTES = 4
_ID_BYTES = 4

# Of the host. Measured: interpreter, libraries and the code of the program; per token of the vocabulary the tokenizer's
# tables and the names and merges in the file's header.
_PROGRAM_BYTES = 58 << 20
_TOKEN_BYTES = 560
_LOGIT_ROWS = 4  # a row as the host has it, copies of it, and what the sampler sorts


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a GGUF: shape slowest dimension first, type as GGUF spells it. `n_bytes` is what a file has of it,
    and stands for all that a type which cannot be run would take."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int = 0

    def __post_init__(self) -> None:
        """Raises FormatError for a type of which nothing is known."""
        if self.dtype not in _BLOCKS and not self.n_bytes:
            raise FormatError(f"{self.name} is of type {self.dtype}; expected one of {', '.join(_BLOCKS)}")

    @property
    def file_bytes(self) -> int:
        if self.dtype not in _BLOCKS:
            return self.n_bytes
        values, n_bytes = _BLOCKS[self.dtype]
        return math.prod(self.shape) // values * n_bytes

    @property
    def is_matrix(self) -> bool:
        """Whether a device packs it."""
        return self.dtype in _BLOCKS and not self.name.endswith(_VECTORS)

    @property
    def unpacked_bytes(self) -> int:
        """Of one that is no matrix."""
        return _FLOAT_BYTES * math.prod(self.shape) if self.dtype in _BLOCKS else self.n_bytes

    @property
    def matrix(self) -> tuple[str, int, int, int]:
        """Type, rows, columns, and how many equal parts of the rows are packed apart: experts, and of a fused tensor
        gate and up of each."""
        parts = 1
        if self.name.endswith("_exps.weight"):
            parts = self.shape[0] * (2 if "gate_up" in self.name else 1)
        return self.dtype, math.prod(self.shape[:-1]), self.shape[-1], parts


@dataclass(frozen=True)
class TypeShare:
    """The tensors of one type, and their bytes on the device and in the file."""

    dtype: str
    tensors: int
    n_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class DeviceFootprint(Footprint):
    """A described model on a device: the tensors of the language model. `drafts`, of a pass, are counted with all that
    is kept for them: rows of the recurrent state that may be taken back and, where there is an MTP block, its weights,
    its keys and values, and hidden rows. `vision_bytes` is the image encoder's; `vocabulary` the tokens that the
    tokenizer lists; `threads` the host's.

    What asks the device raises Unavailable, and FormatError or InputError for shapes that it cannot run."""

    config: ModelConfig
    tensors: tuple[Stored, ...]
    vocabulary: int
    vision_bytes: int = 0
    drafts: int = 0
    threads: int = 2
    device: str = "auto"

    @property
    def page_tokens(self) -> int:
        return self.of_device.page_tokens

    @cached_property
    def pass_rows(self) -> tuple[int, ...]:
        most, least = self.of_device.pass_rows
        return tuple(most >> n for n in range((most // least).bit_length()))

    def parts(self, context_tokens: int, kv: str, rows: int | None = None) -> Memory:
        found, bare = self._with_drafts_and_without(context_tokens, kv, rows)
        on_host = self._on_host(context_tokens) if self.of_device.uses_host_memory else HostMemory(0, 0, 0)
        scratch = {name: found[name] - bare[name] for name in ("activations", "work")}
        return Memory(
            weights=self.weight_bytes,
            kv=bare["kv"],
            state=bare["state"],
            snapshots=found["snapshot"] + on_host.snapshots,
            vision=self.vision_bytes,
            mtp=self._mtp_weights if self.drafts else 0,
            drafts=sum(scratch.values()) + _of_a_conversation(found, bare),
            scratch=bare["activations"] + bare["work"] + bare["unused"] + on_host.scratch,
            program=bare["program"] + on_host.program,
        )

    def conversation_drafts(self, context_tokens: int, kv: str, rows: int | None = None) -> int:
        return _of_a_conversation(*self._with_drafts_and_without(context_tokens, kv, rows))

    def _with_drafts_and_without(self, context_tokens: int, kv: str, rows: int | None) -> tuple[dict[str, int], ...]:
        rows = min(rows or self.pass_rows[0], context_tokens)
        found = self.of_device.parts(context_tokens, kv, rows=rows, drafts=self.drafts)
        return found, self.of_device.parts(context_tokens, kv, rows=rows) if self.drafts else found

    def host_parts(self, context_tokens: int, kv: str, rows: int | None = None) -> HostMemory | None:
        if self.of_device.uses_host_memory:
            return None
        rows = min(rows or self.pass_rows[0], context_tokens)
        found = self.of_device.parts(context_tokens, kv, rows=rows, drafts=self.drafts)
        bare = self._on_host(context_tokens)
        return HostMemory(
            snapshots=bare.snapshots + found["snapshot_host"],
            scratch=bare.scratch + found["work_host"],
            program=bare.program,
        )

    def _on_host(self, context_tokens: int) -> HostMemory:
        """What the host holds for every device."""
        return HostMemory(
            snapshots=_ID_BYTES * context_tokens,
            scratch=_LOGIT_ROWS * _FLOAT_BYTES * self.config.vocabulary,
            program=_PROGRAM_BYTES + _TOKEN_BYTES * self.vocabulary,
        )

    def kv_token_bytes(self, kv: str) -> int:
        """Of one more position of a long context."""
        return self.of_device.parts(self.page_tokens, kv, rows=1)["kv_token"]

    @cached_property
    def by_type(self) -> tuple[TypeShare, ...]:
        """The main weights, the largest share first."""
        shares = []
        main = [(tensor, n_bytes) for tensor, n_bytes in self.held if not self._is_mtp(tensor)]
        for dtype in {tensor.dtype for tensor, _ in main}:
            mine = [(tensor, n_bytes) for tensor, n_bytes in main if tensor.dtype == dtype]
            in_file = sum(tensor.file_bytes for tensor, _ in mine)
            shares.append(TypeShare(dtype, len(mine), sum(n_bytes for _, n_bytes in mine), in_file))
        return tuple(sorted(shares, key=lambda share: (-share.n_bytes, share.dtype)))

    @cached_property
    def held(self) -> tuple[tuple[Stored, int], ...]:
        """Every tensor, and its bytes on the device."""
        packed = iter(self.of_device.weight_bytes)
        held = ((t, next(packed) if t.is_matrix else t.unpacked_bytes) for t in self.tensors)
        return tuple((t, 0 if self._stays_in_file(t) else n_bytes) for t, n_bytes in held)

    @cached_property
    def weight_bytes(self) -> int:
        return sum(share.n_bytes for share in self.by_type)

    @cached_property
    def file_bytes(self) -> int:
        """Of all tensors of the file, without its header."""
        return sum(tensor.file_bytes for tensor in self.tensors)

    @cached_property
    def n_values(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @cached_property
    def _mtp_weights(self) -> int:
        return sum(n_bytes for tensor, n_bytes in self.held if self._is_mtp(tensor))

    def _stays_in_file(self, tensor: Stored) -> bool:
        """A table of embeddings that is not the head too: a card gets the rows that it needs."""
        if self.of_device.uses_host_memory:
            return False
        is_tied = all(other.name != "output.weight" for other in self.tensors)
        return tensor.name.endswith("embed_tokens.weight") or (tensor.name == "token_embd.weight" and not is_tied)

    def _is_mtp(self, tensor: Stored) -> bool:
        return tensor.name.startswith(f"blk.{self.config.layers}.")

    @cached_property
    def _matrices(self) -> list[Stored]:
        return [tensor for tensor in self.tensors if tensor.is_matrix]

    @cached_property
    def of_device(self) -> _core.Footprint:
        matrices = [tensor.matrix for tensor in self._matrices]
        return _core.Footprint(_shape(self.config), matrices, device=self.device, threads=self.threads)


def _of_a_conversation(found: dict[str, int], bare: dict[str, int]) -> int:
    """What drafts add to the parts of one."""
    return found["draft_kv"] + found["state"] - bare["state"] + found["kv"] - bare["kv"]


def _shape(config: ModelConfig) -> dict[str, int]:
    return {name: getattr(config, name) for name in _SHAPE}
