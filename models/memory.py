"""What a model of the family takes in memory, part by part: arithmetic on its shapes, without a file's contents, a
device or a download.

Sizes are those of the CPU, which holds weights in panels of 32 rows (csrc/devices/cpu/panel_layout.h), beside the bytes
of the file, which is what a device that computes on the file's own blocks would hold.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.kv import KvChoice, KvFormat

# Values and bytes of a block in the file, then columns and bytes of a unit of 32 rows in a panel.
_AFFINE = (32, 1536)
_LEVELS = (32, 784)
_TYPES = {
    "F32": (1, 4, 1, 128),
    "F16": (1, 2, 1, 64),
    "BF16": (1, 2, 1, 64),
    "Q4_0": (32, 18, 32, 576),
    "Q4_1": (32, 20, *_AFFINE),
    "Q5_0": (32, 22, *_AFFINE),
    "Q5_1": (32, 24, *_AFFINE),
    "Q8_0": (32, 34, 32, 1088),
    "Q2_K": (256, 84, *_AFFINE),
    "Q3_K": (256, 110, *_LEVELS),
    "Q4_K": (256, 144, 256, 4736),
    "Q5_K": (256, 176, 256, 5760),
    "Q6_K": (256, 210, 256, 6720),
    "IQ4_NL": (32, 18, 32, 576),
    "IQ4_XS": (256, 136, 256, 4416),
    "IQ2_XXS": (256, 66, *_LEVELS),
    "IQ2_XS": (256, 74, *_LEVELS),
    "IQ2_S": (256, 82, *_LEVELS),
    "IQ3_XXS": (256, 98, *_LEVELS),
    "IQ3_S": (256, 110, *_LEVELS),
    "MXFP4": (32, 17, *_LEVELS),
}
_PANEL_ROWS = 32
_VECTORS = ("norm.weight", "ssm_a", "ssm_dt.bias", "ssm_conv1d.weight")  # held as F32, unpacked

# Bytes of 32 values of K and of V, the widest format first.
KV_FORMATS: dict[KvFormat, tuple[int, int]] = {"f16": (64, 64), "q8": (34, 34), "k8v4": (34, 18), "q4": (18, 18)}
_KV_BLOCK = 32

PAGE_TOKENS = 256
CHUNK_TOKENS = 512  # a prompt is read in chunks of so many
_WINDOW_PAGES = 3 + CHUNK_TOKENS // PAGE_TOKENS  # kept in f16 too: the first, the two newest, the chunk's
DELTA_CHUNK = 4  # tokens per update of the recurrent state: kDeltaSteps in csrc/devices/cpu/kernels.h
_SNAPSHOT_PAGES = 3  # of the window, that a snapshot pins
_SNAPSHOT_BYTES = 1 << 30  # what is spent on snapshots where there is room
_LEAST_SNAPSHOTS = 2

MOST_CONTEXT_TOKENS = 1_010_000  # the model cards' limit with YaRN
LEAST_CONTEXT_TOKENS = 4096  # below that a conversation is hardly one
_MOST_STRETCH = 4  # of the trained context, by YaRN

# Matrices share blocks that lie on huge pages and grow with what they hold (csrc/devices/cpu/arena.cpp); the end of a
# block's last page is lost.
_LEAST_BLOCK = 32 << 20
_HUGE_PAGE = 2 << 20

_LINE = 64
_FLOAT = 4
_ROUNDED_BLOCK = 48  # 32 activations as 8-bit codes with scale and sums
_TILE_ROWS = 16  # rows of one expert are interleaved up to that
_QUERY_BLOCK = 128
_KEY_SPAN = 1024
_MOST_PARTIALS = 64 << 20

# Measured: interpreter, libraries and the code of the program; per token of the vocabulary the tokenizer's tables and
# the names and merges in the file's header.
_PROGRAM_BYTES = 58 << 20
_TOKEN_BYTES = 520


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
        if self.dtype not in _TYPES and not self.n_bytes:
            raise FormatError(f"{self.name} is of type {self.dtype}; expected one of {', '.join(_TYPES)}")

    @property
    def file_bytes(self) -> int:
        if self.dtype not in _TYPES:
            return self.n_bytes
        values, n_bytes, _, _ = _TYPES[self.dtype]
        return math.prod(self.shape) // values * n_bytes

    @property
    def is_vector(self) -> bool:
        return self.name.endswith(_VECTORS)

    @property
    def cpu_bytes(self) -> int:
        """As panels: every matrix, and of experts each one's, is rounded up to 32 rows."""
        if self.is_vector:
            return _FLOAT * math.prod(self.shape)
        if self.dtype not in _TYPES:
            return self.n_bytes
        _, _, columns, n_bytes = _TYPES[self.dtype]
        groups, rows = 1, math.prod(self.shape[:-1])
        if self.name.endswith("_exps.weight"):
            groups = self.shape[0] * (2 if "gate_up" in self.name else 1)
            rows //= groups
        return groups * _ceil(rows, _PANEL_ROWS) * (self.shape[-1] // columns) * n_bytes


@dataclass(frozen=True)
class TypeShare:
    """The tensors of one type, and their bytes on the device and in the file."""

    dtype: str
    tensors: int
    n_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Memory:
    """Bytes by part, together the highest resident memory of a process that fills the context. `kv`: keys and values of
    all positions; `delta`: the recurrent state of the DeltaNet layers of one sequence; `scratch`: what a pass works in,
    and the ends of memory pages; `program`: interpreter, libraries, tokenizer. `vision` and `mtp` are 0 unless they are
    there or asked for."""

    weights: int
    kv: int
    delta: int
    snapshots: int
    vision: int
    mtp: int
    scratch: int
    program: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class Footprint:
    """One model as far as memory goes: the tensors of the language model. `predicts` counts keys and values of the MTP
    block too, for a runtime that drafts with it; `vision_bytes` is the image encoder's; `vocabulary` the tokens that
    the tokenizer lists."""

    config: ModelConfig
    tensors: tuple[Stored, ...]
    vocabulary: int
    vision_bytes: int = 0
    predicts: bool = False
    threads: int = 2

    @cached_property
    def by_type(self) -> tuple[TypeShare, ...]:
        """The main weights, the largest share first."""
        tensors = self._main
        shares = []
        for dtype in {tensor.dtype for tensor in tensors}:
            mine = [tensor for tensor in tensors if tensor.dtype == dtype]
            n_bytes, in_file = (sum(getattr(t, kind) for t in mine) for kind in ("cpu_bytes", "file_bytes"))
            shares.append(TypeShare(dtype, len(mine), n_bytes, in_file))
        return tuple(sorted(shares, key=lambda share: (-share.n_bytes, share.dtype)))

    @cached_property
    def file_bytes(self) -> int:
        """Of all tensors of the file, without its header."""
        return sum(tensor.file_bytes for tensor in self.tensors)

    @cached_property
    def n_values(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @cached_property
    def _main(self) -> list[Stored]:
        return [tensor for tensor in self.tensors if not tensor.name.startswith(self._mtp_block)]

    @property
    def _mtp_block(self) -> str:
        return f"blk.{self.config.layers}."

    @cached_property
    def weight_bytes(self) -> int:
        return sum(share.n_bytes for share in self.by_type)

    @cached_property
    def _mtp_weights(self) -> int:
        return sum(t.cpu_bytes for t in self.tensors if t.name.startswith(self._mtp_block))

    @cached_property
    def _page_ends(self) -> int:
        lost = used = block = taken = 0
        for n_bytes in (tensor.cpu_bytes for tensor in self.tensors if not tensor.is_vector):
            taken += n_bytes
            if used + n_bytes > block:
                wanted = max(_LEAST_BLOCK, _ceil(taken // 4, _HUGE_PAGE) * _HUGE_PAGE)
                if n_bytes >= wanted:
                    continue
                lost += -used % _HUGE_PAGE
                used, block = 0, wanted
            used += n_bytes
        return lost + -used % _HUGE_PAGE

    @property
    def most_context(self) -> int:
        """The longest context that can be asked for: with YaRN four times the trained one."""
        yarn = self.config.yarn
        trained = yarn.original_context_tokens if yarn else self.config.context_tokens
        return max(min(_MOST_STRETCH * trained, MOST_CONTEXT_TOKENS), self.config.context_tokens)

    def memory(
        self, context_tokens: int, kv: KvFormat, *, budget: int | None = None, snapshots: int | None = None
    ) -> Memory:
        """`snapshots` is what is spent on them; None takes what is left of `budget`, an eighth of it and 1 GiB at most
        and two snapshots at least."""
        mtp = self._mtp_weights + (kv_bytes(self.config, context_tokens, kv, layers=1) if self.predicts else 0)
        rest = Memory(
            weights=self.weight_bytes,
            kv=kv_bytes(self.config, context_tokens, kv),
            delta=delta_bytes(self.config),
            snapshots=0,
            vision=self.vision_bytes,
            mtp=mtp,
            scratch=scratch_bytes(self.config, context_tokens, self.threads) + self._page_ends,
            program=_PROGRAM_BYTES + _TOKEN_BYTES * self.vocabulary,
        )
        if snapshots is None:
            wanted = _SNAPSHOT_BYTES if budget is None else min(_SNAPSHOT_BYTES, budget // 8, budget - rest.total)
            snapshots = max(wanted, _LEAST_SNAPSHOTS * snapshot_bytes(self.config, context_tokens, kv))
        return Memory(**{**vars(rest), "snapshots": snapshots})

    def fits(self, context_tokens: int, kv: KvFormat, budget: int) -> bool:
        return self.memory(context_tokens, kv, budget=budget).total <= budget

    def longest(self, kv: KvFormat, budget: int) -> int:
        """Tokens of the longest context, in whole pages or `most_context`; 0 when not even one page fits."""
        pages = range(1, _ceil(self.most_context, PAGE_TOKENS) + 1)
        too_much = bisect_right(pages, False, key=lambda n: not self.fits(self._tokens(n), kv, budget))
        return self._tokens(too_much)

    def _tokens(self, pages: int) -> int:
        return min(pages * PAGE_TOKENS, self.most_context)


@dataclass(frozen=True)
class Plan:
    """A context and a KV format in a memory of `budget` bytes, and what they take."""

    footprint: Footprint
    context_tokens: int
    kv: KvFormat
    budget: int
    memory: Memory

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.budget

    @property
    def needs_yarn(self) -> bool:
        """Whether the context is beyond the one that the model has by itself."""
        return self.context_tokens > self.footprint.config.context_tokens


def solve(
    footprint: Footprint,
    budget: int,
    *,
    context_tokens: int | None = None,
    kv: KvChoice = "auto",
    formats: Sequence[KvFormat] = tuple(KV_FORMATS),
) -> Plan:
    """What to choose where a choice is left: the widest of `formats` that fits the context (`kv` "auto"), and without a
    context the longest that fits: with "auto" in the widest format that reaches the model's own context.

    The plan does not fit when nothing does: it is then of the narrowest format, and without a context of a short one.
    """
    allowed = formats if kv == "auto" else (kv,)
    if context_tokens is None:
        wanted = min(footprint.config.context_tokens, footprint.most_context)
        longest = {each: footprint.longest(each, budget) for each in allowed}
        chosen = next((each for each in allowed if longest[each] >= wanted), allowed[-1])
        least = min(LEAST_CONTEXT_TOKENS, wanted)
        context_tokens = longest[chosen] if longest[chosen] >= least else least
    else:
        chosen = next((each for each in allowed if footprint.fits(context_tokens, each, budget)), allowed[-1])
    memory = footprint.memory(context_tokens, chosen, budget=budget)
    return Plan(footprint, context_tokens, chosen, budget, memory)


def kv_token_bytes(config: ModelConfig, kv: KvFormat, layers: int | None = None) -> int:
    """Of one position in `layers` attention layers (None: all), as in docs/architecture.md 9."""
    count = len(config.full_attention_layers) if layers is None else layers
    return count * config.kv_heads * _ceil(config.head_width, _KV_BLOCK) * sum(KV_FORMATS[kv])


def kv_bytes(config: ModelConfig, context_tokens: int, kv: KvFormat, layers: int | None = None) -> int:
    """Whole pages; in the narrow formats the window that is kept in f16 comes on top."""
    pages = _ceil(context_tokens, PAGE_TOKENS)
    window = 0 if kv == "f16" else min(pages, _WINDOW_PAGES)
    per_token = pages * kv_token_bytes(config, kv, layers) + window * kv_token_bytes(config, "f16", layers)
    return PAGE_TOKENS * per_token


def delta_bytes(config: ModelConfig) -> int:
    """Of every DeltaNet layer: S in fp32, the convolution's window (section 2.9), the tokens of an unfinished chunk."""
    window = _lines((config.conv_taps - 1) * config.conv_channels * _FLOAT)
    memory = _lines(config.delta_value_heads * config.delta_key_width * config.delta_value_width * _FLOAT)
    waiting = DELTA_CHUNK * _FLOAT
    values = config.delta_value_heads * config.delta_value_width
    keys = _lines(waiting * config.delta_key_heads * config.delta_key_width)
    chunk = keys + _lines(waiting * values) + _lines(waiting * config.delta_value_heads)
    return (config.layers - len(config.full_attention_layers)) * (window + memory + chunk)


def snapshot_bytes(config: ModelConfig, context_tokens: int, kv: KvFormat) -> int:
    """Recurrent state, the tokens, and the pages of the f16 window that only the snapshot still holds."""
    pinned = 0 if kv == "f16" else _SNAPSHOT_PAGES * PAGE_TOKENS * kv_token_bytes(config, "f16")
    return delta_bytes(config) + context_tokens * 4 + pinned


def scratch_bytes(config: ModelConfig, context_tokens: int, threads: int) -> int:
    """Of a chunk of a prompt: csrc/model/state.cpp, and what the CPU's operations keep."""
    c = config
    rows = min(CHUNK_TOKENS, context_tokens)
    pairs = rows * c.experts_per_token
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    values = c.delta_value_heads * c.delta_value_width
    delta_net = c.conv_channels + 2 * values + 2 * c.delta_value_heads
    attention = 3 * queries + 2 * keys
    dense = c.feed_forward or c.shared_expert_feed_forward + c.experts + 1
    experts = pairs * (c.expert_feed_forward + 2)
    widest = max(rows * max(delta_net, attention), rows * dense + experts, rows * c.hidden + c.vocabulary)
    activations = _FLOAT * (2 * rows * c.hidden + widest)

    units = _FLOAT * rows * (c.delta_key_heads * (2 * c.delta_key_width + 1) + 2 * c.delta_value_heads)
    inputs = max(rows * max(c.hidden, queries, values, c.feed_forward), pairs * c.expert_feed_forward)
    interleaved = max(
        inputs, (pairs + _TILE_ROWS * c.experts) * max(c.hidden, c.expert_feed_forward) if c.experts else 0
    )
    rounded = (inputs + interleaved) // 32 * _ROUNDED_BLOCK  # row by row, and interleaved to tiles
    partials = c.kv_heads * _ceil(context_tokens, _KEY_SPAN) * _QUERY_BLOCK * (c.head_width + 2) * _FLOAT
    products = threads * pairs * (_PANEL_ROWS * _FLOAT + 8)
    logits = 4 * _FLOAT * c.vocabulary  # copies of a row, and what the sampler sorts
    # Open pages, packed pages, recurrent state and activations lie in blocks of huge pages of their own.
    page_ends = 4 * _HUGE_PAGE
    return activations + units + rounded + min(partials, _MOST_PARTIALS) + products + logits + page_ends


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _lines(n_bytes: int) -> int:
    return _ceil(n_bytes, _LINE) * _LINE
