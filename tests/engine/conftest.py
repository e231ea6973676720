"""The embedded model, loaded once, and random ones that can hold a conversation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_model import random_model, tiny_config
from vocabularies import tiny_bpe

from qwen35_local import _core, hub


@pytest.fixture(scope="session")
def demo() -> _core.Model:
    return _core.Model(hub.embedded_model())


@pytest.fixture(scope="session", params=["dense", "moe"])
def talker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a token per byte, a few merges and the family's tags."""
    return random_talker(tmp_path_factory.mktemp(request.param), moe=request.param == "moe")


def random_talker(folder: Path, seed: int = 0, **config: Any) -> Path:
    vocabulary = tiny_bpe()
    metadata = {key: np.uint32(value) if type(value) is int else value for key, value in vocabulary.items()}
    size = len(vocabulary["tokenizer.ggml.tokens"])
    shape = tiny_config(vocabulary=size, **config)
    return random_model(folder, shape, seed=seed, dtype="F16", metadata=metadata).path
