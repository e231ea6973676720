"""What a model too large for one machine takes on graphics cards, as vLLM serves it: weights, contexts, cards.

Weights are counted from the tensor table: BF16 all of them; FP8 the matrices in a byte and a scale per 128 x 128; 4-bit
as the family's GPTQ checkpoints are, the feed-forward matrices and experts in four bits and a 16-bit scale per 128.
Cards hold equal shares: of each matrix among the cards of a machine (tensor parallel), of the layers among machines
(pipeline parallel). Where more cards than KV heads share a layer, its keys and values are held more than once.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen35_local.models.registry import Size
from qwen35_local.models.tensors import tensor_table

Format: TypeAlias = Literal["BF16", "FP8", "4-bit"]

FORMATS: dict[Format, str] = {"BF16": "", "FP8": "-FP8", "4-bit": "-GPTQ-Int4"}
"""The ends of the names of the checkpoints."""

CARDS = {"80 GB": 79 << 30, "141 GB": 140 << 30}
"""Bytes that a card of this name has: H100 or A100, and H200."""

CARDS_PER_MACHINE = 8
_MOST_MACHINES = 16
_SHARE = 0.9  # of a card's memory that vLLM takes unless told (--gpu-memory-utilization)
_ASIDE = 3 << 30  # activations and CUDA graphs, on each card: a rule of thumb
_BLOCK = 128 * 128
_GROUP = 128


@dataclass(frozen=True)
class Layout:
    """A format on cards of one kind. `context_tokens`: of all conversations together, what the cards have room for."""

    format: Format
    card: str
    weight_bytes: int
    tensor_parallel: int
    pipeline_parallel: int
    context_tokens: int

    @property
    def n_cards(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


def weight_bytes(size: Size, format: Format) -> int:
    """With the image encoder, and without the block that drafts."""
    vision = 2 * size.vision.parameters
    block = f"blk.{size.config.layers}."
    specs = [spec for spec in tensor_table(size.config) if not spec.name.startswith(block)]
    return vision + sum(_tensor_bytes(spec.name, spec.shape, format) for spec in specs)


def _tensor_bytes(name: str, shape: tuple[int, ...], format: Format) -> int:
    n = math.prod(shape)
    is_table = name in ("token_embd.weight", "output.weight")
    is_small = len(shape) < 2 or "conv" in name or "_inp" in name
    if format == "BF16" or is_table or is_small:
        return 2 * n
    if format == "FP8":
        return n + 4 * math.ceil(n / _BLOCK)
    return n // 2 + 2 * math.ceil(n / _GROUP) if ".ffn_" in name else 2 * n


def layouts(size: Size, context_tokens: int, kv_token_bytes: int, state_bytes: int) -> list[Layout]:
    """For each format and kind of card the fewest cards that hold the weights and a conversation of `context_tokens`.
    `kv_token_bytes`: of all layers, in 16 bits; `state_bytes`: the recurrent state of a conversation."""
    found = []
    for format in FORMATS:
        weights = weight_bytes(size, format)
        for card, n_bytes in CARDS.items():
            for tensor, pipeline in _splits(size):
                stage = math.ceil(size.config.layers / pipeline) / size.config.layers
                room = n_bytes * _SHARE - _ASIDE - (weights + state_bytes) * stage / tensor
                per_token = kv_token_bytes * stage / min(tensor, size.config.kv_heads)
                if room >= context_tokens * per_token:
                    found.append(Layout(format, card, weights, tensor, pipeline, int(room / per_token)))
                    break
    return found


def _splits(size: Size) -> list[tuple[int, int]]:
    """Cards per machine and machines, the fewest cards first."""
    config = size.config
    shares = [n for n in (1, 2, 4, 8) if config.heads % n == 0 and config.delta_value_heads % n == 0]
    return [(n, 1) for n in shares] + [(shares[-1], n) for n in range(2, _MOST_MACHINES + 1)]


def commands(size: Size, layout: Layout, context_tokens: int) -> list[tuple[str, str]]:
    """Where each is typed, and what. HEAD is the first machine."""
    serve = [
        f"vllm serve Qwen/{size.name}{FORMATS[layout.format]}",
        f"--tensor-parallel-size {layout.tensor_parallel}",
        f"--max-model-len {context_tokens}",
        "--reasoning-parser qwen3 --enable-auto-tool-choice --tool-call-parser qwen3_coder",
        "--enable-prefix-caching --enable-prompt-tokens-details",
    ]
    begin: list[tuple[str, str]] = []
    if layout.pipeline_parallel > 1:
        begin = [("on HEAD", "ray start --head --port 6379"), ("on each other", "ray start --address HEAD:6379")]
        serve.insert(2, f"--pipeline-parallel-size {layout.pipeline_parallel} --distributed-executor-backend ray")
    talk = [("here", "qwen35 chat --endpoint http://HEAD:8000"), ("or", "qwen35 serve --upstream http://HEAD:8000")]
    return [*begin, ("on HEAD", " ".join(serve)), *talk]
