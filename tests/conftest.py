"""Tiny random models, each written once per session."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# The matrices here are small: more BLAS threads would only wait for each other. Acts when numpy is not yet loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """tiny(wide=False, dtype="F32", fused=False, **config) gives a `RandomModel`; wide ones fit every tensor type."""
    from random_model import random_model, super_block_config, tiny_config

    written: dict[str, Any] = {}

    def make(*, wide: bool = False, dtype: str = "F32", fused: bool = False, seed: int = 0, **config: Any) -> Any:
        key = repr((wide, dtype, fused, seed, sorted(config.items())))
        if key not in written:
            shape = (super_block_config if wide else tiny_config)(**config)
            folder = tmp_path_factory.mktemp("model")
            written[key] = random_model(folder, shape, dtype=dtype, fused=fused, seed=seed)
        return written[key]

    return make
