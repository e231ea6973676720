"""Which instruction set is used, and what QWEN35_ISA may say."""

import pytest

from qwen35_local import _core
from qwen35_local._core import kernels
from qwen35_local.errors import Unavailable


def test_the_scalar_twins_are_always_there():
    assert _core.available_isas()[0] == "reference"


def test_the_last_one_is_chosen(monkeypatch):
    monkeypatch.delenv("QWEN35_ISA", raising=False)
    assert _core.isa() == _core.available_isas()[-1]
    monkeypatch.setenv("QWEN35_ISA", "")
    assert _core.isa() == _core.available_isas()[-1]


def test_the_environment_chooses(monkeypatch, isa):
    monkeypatch.setenv("QWEN35_ISA", isa)
    assert _core.isa() == isa
    assert kernels.Device(f"cpu-{isa}").name == kernels.Device("cpu").name == f"cpu-{isa}"


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 "])
def test_an_unknown_one_is_refused(monkeypatch, name):
    monkeypatch.setenv("QWEN35_ISA", name)
    with pytest.raises(Unavailable, match=rf"'{name}' is not available.*has reference"):
        _core.isa()


def test_devices_of_this_machine_are_those_that_open():
    assert [f"cpu-{isa}" for isa in _core.available_isas()] == [d for d in kernels.devices() if d.startswith("cpu-")]
    for name in set(kernels.possible_devices()) - set(kernels.devices()):
        with pytest.raises(Unavailable, match="is not available"):
            kernels.Device(name)
