"""The embedded model, loaded once, and random ones that can hold a conversation."""

from pathlib import Path

import pytest
from talkers import random_talker

from qwen35_local import _core, hub


@pytest.fixture(scope="session")
def demo() -> _core.Model:
    return _core.Model(hub.embedded_model())


@pytest.fixture(scope="session", params=["dense", "moe"])
def talker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_talker(tmp_path_factory.mktemp(request.param), moe=request.param == "moe")
