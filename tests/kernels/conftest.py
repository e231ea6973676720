"""The devices a test runs on: every one that opens here, by name. A new device needs no new test file."""

import pytest
from kernel_cases import DEVICES, REFERENCE, device_of

from qwen35_local import _core
from qwen35_local._core import kernels


@pytest.fixture(params=DEVICES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[name for name in DEVICES if name != REFERENCE])
def other_name(request: pytest.FixtureRequest) -> str:
    """Every device but the scalar kernels, which the others are compared with."""
    return request.param


@pytest.fixture
def device(name: str) -> kernels.Device:
    return device_of(name, 1)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[isa for isa in _core.available_isas() if isa != "reference"])
def vector_isa(request: pytest.FixtureRequest) -> str:
    return request.param


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = [name for name in kernels.possible_devices() if name not in DEVICES]
    terminalreporter.write_line(f"kernels ran on {', '.join(DEVICES)}; not covered: {', '.join(missing) or 'none'}")
