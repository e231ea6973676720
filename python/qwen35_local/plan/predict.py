"""How fast a card would decode: a prediction from the bytes and kernels of a token, for cards that nobody here has
measured."""

from dataclasses import dataclass

from qwen35_local.models.config import ModelConfig
from qwen35_local.plan.footprint import DeviceFootprint

REACHED = 0.9  # of a card's nominal bandwidth; copies on a 3090 and a 5090 reach 0.90 and 0.93


@dataclass(frozen=True)
class Card:
    """Nominal bandwidth, and what one kernel of a graph costs beside its bytes: less where a kernel may begin before
    the one ahead of it has ended (compute capability 9.0 and newer)."""

    name: str
    gb_per_s: float
    step_us: float


CARDS = {
    "3090": Card("RTX 3090", 936.0, 2.8),
    "4090": Card("RTX 4090", 1008.0, 2.8),
    "5090": Card("RTX 5090", 1792.0, 2.0),
    "h200": Card("H200", 4800.0, 2.0),
}


@dataclass(frozen=True)
class Prediction:
    depth: int
    kv: str
    n_bytes: float  # that a token reads and writes
    kernels: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        return 1.0 / self.seconds

    def share(self, card: Card) -> float:
        """Of the card's nominal bandwidth."""
        return self.n_bytes / self.seconds / (card.gb_per_s * 1e9)


def kernels_per_token(config: ModelConfig) -> int:
    """Of one row, as tests/devices/test_cuda.py counts them; where the row fills a page of quantised keys and values,
    each layer that attends takes two more."""
    around = 2 if config.embeddings_are_tied else 1  # the head with the last norm, and the table on the card
    return around + config.layers * (6 if config.experts else 5)


def bytes_per_token(model: DeviceFootprint, depth: int, kv: str) -> float:
    """Weights that one row is multiplied with, the recurrent state read and written, keys and values read."""
    config, share = model.config, 1.0
    if config.experts:
        share = config.experts_per_token / config.experts
    weights = 0.0
    for tensor, n_bytes in model.held:
        if not tensor.name.startswith(f"blk.{config.layers}."):
            weights += n_bytes * (share if tensor.name.endswith("_exps.weight") else 1.0)
    parts = model.of_device.parts(max(depth, 1), kv, rows=1)
    return weights + 2 * parts["state"] + depth * model.kv_token_bytes(kv)


def predict(model: DeviceFootprint, card: Card, depth: int, kv: str) -> Prediction:
    """Bytes at 0.9 of the bandwidth, and so many microseconds a kernel."""
    n_bytes, kernels = bytes_per_token(model, depth, kv), kernels_per_token(model.config)
    seconds = n_bytes / (REACHED * card.gb_per_s * 1e9) + kernels * card.step_us * 1e-6
    return Prediction(depth, kv, n_bytes, kernels, seconds)
