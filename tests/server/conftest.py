"""The server over the embedded model."""

from collections.abc import Iterator

import httpx
import pytest
from serving import Served, served

from qwen35_local import Model
from qwen35_local.engine.engine import Engine


@pytest.fixture(scope="session")
def demo_engine() -> Iterator[Engine]:
    with Model.from_file(context_tokens=4096, threads=1) as model:
        yield model._engine


@pytest.fixture(scope="session")
def server(demo_engine: Engine) -> Iterator[Served]:
    with served(demo_engine) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
