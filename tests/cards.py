"""Machines with CUDA cards, for tests that start programs: the driver of tests/simt, as its settings ask."""

import os
from pathlib import Path

import pytest

_BUILT = Path(__file__).parents[1] / "build/core/simt/libcuda.so.1"


def cards(**settings: int) -> dict[str, str]:
    """The environment of a program. `settings` as in tests/simt/settings.h."""
    driver = Path(os.environ.get("QWEN35_SIMT", _BUILT))
    if not driver.exists():
        pytest.skip(f"needs the driver of tests/simt ({driver})")
    chosen = {f"SIMT_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "LD_LIBRARY_PATH": str(driver.parent), **chosen}
