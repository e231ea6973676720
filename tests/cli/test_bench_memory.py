"""Whether a model that `qwen35 bench --synthetic` makes up fits its device."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from random_model import super_block_config

from qwen35_local import _core
from qwen35_local.cli.bench import check_memory
from qwen35_local.engine import machine
from qwen35_local.errors import InputError
from qwen35_local.quantize.synthetic import of_config


@pytest.mark.parametrize(
    ("is_host", "of_device", "of_host", "fits"),
    [(False, 1.0, 0.0, True), (False, 0.99, 9.0, False), (True, 0.0, 9.0, True), (True, 9.0, 1.0, False)],
    ids=["a card", "a small card", "the CPU", "the CPU, with nothing for what a model is made from"],
)
def test_a_model_that_is_made_has_to_fit_its_device(
    monkeypatch: pytest.MonkeyPatch, is_host: bool, of_device: float, of_host: float, fits: bool
) -> None:
    """By shares of its bytes that are free there."""
    made = of_config("tiny", super_block_config(), "Q8_0", size="tiny")
    memory = SimpleNamespace(is_host=is_host, free=int(of_device * made.n_bytes))
    monkeypatch.setattr(_core, "device_memory", lambda device: memory)
    monkeypatch.setattr(machine, "memory_bytes", lambda: (int(of_host * made.n_bytes), 1 << 40))
    with nullcontext() if fits else pytest.raises(InputError, match=r"tiny as Q8_0 takes .* are free"):
        check_memory(made, "cuda", 1)
