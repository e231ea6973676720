"""The published sizes of the family, as data, and exact parameter counts.

Sources: the published `config.json` of 27B, 35B-A3B, 122B-A10B and 397B-A17B; model scripts and cards for the others.
Every row is checked by its exact parameter count: text, MTP and vision together give the published total.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import tensor_table


@dataclass(frozen=True)
class Parameters:
    """Parameter counts of the language model. `text` has the embedding table and, when untied, the output matrix.

    `active` is what one token reads: all of `text` but the experts that are not chosen and, when untied, the embedding
    table, of which it reads one row.
    """

    text: int
    mtp: int
    active: int


@dataclass(frozen=True)
class VisionTower:
    """The image encoder's sizes. Patches of 2 x 16 x 16 x 3 values, 48 x 48 learned positions, 2 x 2 merge."""

    depth: int
    hidden: int
    heads: int
    feed_forward: int
    out: int  # the text model's hidden width

    @property
    def parameters(self) -> int:
        """Exact count, biases included."""
        d, f, merged = self.hidden, self.feed_forward, 4 * self.hidden
        embedding = d * 1536 + d + 48 * 48 * d
        block = 4 * d + (d * 3 * d + 3 * d) + (d * d + d) + (d * f + f) + (f * d + d)
        merger = 2 * d + (merged * merged + merged) + (merged * self.out + self.out)
        return embedding + self.depth * block + merger


@dataclass(frozen=True)
class Size:
    """One published size. `total_parameters` counts text, MTP and vision."""

    name: str
    config: ModelConfig
    vision: VisionTower
    total_parameters: int
    also: tuple[str, ...] = ()  # later releases with the same shapes


def parameters(config: ModelConfig) -> Parameters:
    """Exact counts for any configuration, from the shapes of its tensor table."""
    mtp_block = f"blk.{config.layers}."
    counts = {spec.name: math.prod(spec.shape) for spec in tensor_table(config)}
    mtp = sum(count for name, count in counts.items() if name.startswith(mtp_block))
    text = sum(counts.values()) - mtp
    active = text
    if not config.embeddings_are_tied:
        active -= counts["token_embd.weight"]
    for name, count in counts.items():
        if name.endswith("_exps.weight") and not name.startswith(mtp_block):
            active -= count - count * config.experts_per_token // config.experts
    return Parameters(text=text, mtp=mtp, active=active)


def _dense(
    hidden: int, layers: int, heads: int, kv_heads: int, value_heads: int, width: int, tied: bool
) -> ModelConfig:
    return ModelConfig(
        vocabulary=248320,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        delta_value_heads=value_heads,
        feed_forward=width,
        embeddings_are_tied=tied,
        mtp_layers=1,
        eos_ids=(248044,),
    )


def _moe(hidden: int, layers: int, heads: int, value_heads: int, experts: int, top_k: int, width: int) -> ModelConfig:
    return ModelConfig(
        vocabulary=248320,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=2,
        delta_value_heads=value_heads,
        experts=experts,
        experts_per_token=top_k,
        expert_feed_forward=width,
        shared_expert_feed_forward=width,
        mtp_layers=1,
        eos_ids=(248044,),
    )


_SMALL = (24, 1024, 16, 4096)
_LARGE = (27, 1152, 16, 4304)

SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size(
            "Qwen3.5-0.8B",
            _dense(1024, 24, 8, 2, 16, 3584, tied=True),
            VisionTower(12, 768, 12, 3072, 1024),
            873_438_784,
        ),
        Size(
            "Qwen3.5-2B",
            _dense(2048, 24, 8, 2, 16, 6144, tied=True),
            VisionTower(*_SMALL, 2048),
            2_274_069_824,
        ),
        Size(
            "Qwen3.5-4B",
            _dense(2560, 32, 16, 4, 32, 9216, tied=True),
            VisionTower(*_SMALL, 2560),
            4_659_865_088,
        ),
        Size(
            "Qwen3.5-9B",
            _dense(4096, 32, 16, 4, 32, 12288, tied=False),
            VisionTower(*_LARGE, 4096),
            9_653_104_368,
        ),
        Size(
            "Qwen3.5-27B",
            _dense(5120, 64, 24, 4, 48, 17408, tied=False),
            VisionTower(*_LARGE, 5120),
            27_781_427_952,
            also=("Qwen3.6-27B", "Qwen3.8-27B"),
        ),
        Size(
            "Qwen3.5-35B-A3B",
            _moe(2048, 40, 16, 32, experts=256, top_k=8, width=512),
            VisionTower(*_LARGE, 2048),
            35_951_822_704,
            also=("Qwen3.6-35B-A3B",),
        ),
        Size(
            "Qwen3.5-122B-A10B",
            _moe(3072, 48, 32, 64, experts=256, top_k=8, width=1024),
            VisionTower(*_LARGE, 3072),
            125_086_497_008,
        ),
        Size(
            "Qwen3.5-397B-A17B",
            _moe(4096, 60, 32, 64, experts=512, top_k=10, width=1024),
            VisionTower(*_LARGE, 4096),
            403_397_928_944,
        ),
    )
}
