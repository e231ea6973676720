"""Tiny random models with the logits transformers computes for them, for every implementation to be held against.

Weights are drawn by numpy from the seed, tensor by tensor, so that no weight file is stored; the expected logits are
in tests/golden/logits, see PROVENANCE.md there.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from extended import with_yarn
from numpy.typing import NDArray

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import tensor_table

LOGITS = Path(__file__).parent / "golden" / "logits"

_SHAPE = ModelConfig(
    vocabulary=512,
    hidden=256,
    layers=4,
    heads=4,
    kv_heads=2,
    delta_key_heads=2,
    delta_value_heads=2,
    feed_forward=512,
    embeddings_are_tied=True,
)


def _model(**changes: object) -> ModelConfig:
    return ModelConfig(**{**vars(_SHAPE), **changes})


CONFIGS: dict[str, ModelConfig] = {
    "dense-ratio1-tied": _model(),
    "dense-ratio3-mtp": _model(layers=8, delta_value_heads=6, embeddings_are_tied=False, mtp_layers=1),
    "dense-ratio2-yarn": with_yarn(_model(delta_value_heads=4), 4.0),
    "moe-ratio2": _model(
        delta_value_heads=4,
        heads=8,
        feed_forward=0,
        experts=16,
        experts_per_token=4,
        expert_feed_forward=256,
        shared_expert_feed_forward=256,
        embeddings_are_tied=False,
    ),
}
N_TOKENS = 300  # crosses the 64-token chunks of the delta rule and a 256-token page of keys and values


@dataclass(frozen=True)
class GoldenModel:
    """A model and what it must compute: `logits` [R, V] at `rows` [R] of the prompt `tokens` [T], in fp64.

    `draft_logits` [R, V] are the multi-token-prediction block's for hidden row `rows[i]` and token `rows[i] + 1`
    (the last row is followed by token 0); None without such a block.
    """

    name: str
    config: ModelConfig
    weights: dict[str, NDArray[np.float32]]
    tokens: list[int]
    rows: NDArray[np.int64]
    logits: NDArray[np.float64]
    draft_logits: NDArray[np.float64] | None


def random_weights(config: ModelConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Every tensor of the model under its GGUF name, fp32; the same bits on every machine and numpy version."""
    weights = {}
    for spec in tensor_table(config):
        stream = np.random.RandomState([seed, zlib.crc32(spec.name.encode())])
        uniform = 2.0 * stream.random_sample(spec.shape) - 1.0
        if spec.name.endswith("norm.weight"):
            values = 1.0 + 0.5 * uniform
        elif spec.name.endswith("ssm_a"):
            values = -2.0 + 1.95 * uniform
        elif spec.name.endswith("ssm_dt.bias"):
            values = 1.5 * uniform
        else:
            values = 2.0 * uniform / np.sqrt(spec.shape[-1])
        weights[spec.name] = values.astype(np.float32)
    return weights


def prompt(config: ModelConfig, seed: int) -> list[int]:
    """N_TOKENS random token ids."""
    return [int(token) for token in np.random.RandomState(seed).randint(0, config.vocabulary, N_TOKENS)]


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode())


def golden_model(name: str) -> GoldenModel:
    """The golden model of that name in CONFIGS, its weights drawn and its expected logits read."""
    config, seed = CONFIGS[name], seed_of(name)
    with np.load(LOGITS / f"{name}.npz") as stored:
        arrays = dict(stored)
    draft_logits = arrays.get("draft_logits")
    tokens = [int(token) for token in arrays["tokens"]]
    return GoldenModel(
        name, config, random_weights(config, seed), tokens, arrays["rows"], arrays["logits"], draft_logits
    )
