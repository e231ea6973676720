"""Which instruction set is used, and what QWEN35_ISA may say."""

import pytest

from qwen35_local._core import kernels
from qwen35_local.errors import Qwen35Error


def test_the_scalar_twins_are_always_there():
    assert kernels.isas()[0] == "reference"


def test_the_last_one_is_chosen(monkeypatch):
    monkeypatch.delenv("QWEN35_ISA", raising=False)
    assert kernels.chosen_isa() == kernels.isas()[-1]
    monkeypatch.setenv("QWEN35_ISA", "")
    assert kernels.chosen_isa() == kernels.isas()[-1]


def test_the_environment_chooses(monkeypatch, isa):
    monkeypatch.setenv("QWEN35_ISA", isa)
    assert kernels.chosen_isa() == isa
    assert kernels.Cpu(isa).name == f"cpu-{isa}"


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 "])
def test_an_unknown_one_is_refused(monkeypatch, name):
    monkeypatch.setenv("QWEN35_ISA", name)
    with pytest.raises(Qwen35Error, match=rf"'{name}' is not available.*has reference"):
        kernels.chosen_isa()
