"""The server over the embedded model."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from browsing import Person, chromium
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


@pytest.fixture(scope="module")  # driving it keeps an event loop running, which tests of other modules may not have
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def options() -> dict[str, Any]:
    """Of the browser's window."""
    return {"viewport": {"width": 1200, "height": 800}}


@pytest.fixture
def person(browser: Any, server: Served, options: dict[str, Any]) -> Iterator[Person]:
    """Somebody who has opened the page. It has no errors, the violations of its policy among them, and asks nobody but
    the server."""
    context = browser.new_context(**options)
    somebody = Person(context.new_page(), server.url)
    somebody.go()
    yield somebody
    context.close()
    assert somebody.errors == []
    assert all(address.startswith((server.url, "blob:")) for address in somebody.addresses)
