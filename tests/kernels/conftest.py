"""Every instruction set this machine can run."""

import pytest
from kernel_cases import cpu_of

from qwen35_local._core import kernels


@pytest.fixture(params=kernels.isas())
def isa(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[name for name in kernels.isas() if name != "reference"])
def vector_isa(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def cpu(isa: str) -> kernels.Cpu:
    return cpu_of(isa, 1)
