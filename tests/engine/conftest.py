"""The embedded model, loaded once."""

import pytest

from qwen35_local import _core, hub


@pytest.fixture(scope="session")
def demo() -> _core.Model:
    return _core.Model(hub.embedded_model())
