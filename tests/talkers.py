"""Random models that can hold a conversation."""

from pathlib import Path
from typing import Any

import numpy as np
from random_model import random_model, tiny_config
from vocabularies import tiny_bpe


def random_talker(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A model with a token per byte, a few merges and the family's tags."""
    vocabulary = tiny_bpe()
    metadata = {key: np.uint32(value) if type(value) is int else value for key, value in vocabulary.items()}
    size = len(vocabulary["tokenizer.ggml.tokens"])
    shape = tiny_config(vocabulary=size, **config)
    return random_model(folder, shape, seed=seed, dtype="F16", metadata=metadata).path
