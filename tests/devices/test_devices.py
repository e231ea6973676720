"""Which devices there are, what is said of one that is not, and that asking costs nothing."""

import functools
import operator
import signal
import sys
from collections.abc import Callable
from ctypes import pythonapi
from pathlib import Path
from typing import Any

import pytest

from qwen35_local import _core, hub
from qwen35_local.engine.load import load
from qwen35_local.errors import InputError, Unavailable

NAMES = ["cuda", "metal", "cpu"]
ABSENT = [name for name, absence in _core.devices().items() if absence is not None]
SHAPE = {
    "layers": 4,
    "attention_interval": 4,
    "hidden": 64,
    "vocabulary": 300,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 32,
    "key_heads": 2,
    "value_heads": 4,
    "key_width": 32,
    "value_width": 32,
    "conv_width": 4,
    "feed_forward": 96,
    "experts": 0,
    "experts_per_token": 0,
    "shared_feed_forward": 0,
}


def test_the_best_device_comes_first_and_the_cpu_is_always_there() -> None:
    assert list(_core.devices()) == NAMES
    assert _core.devices()["cpu"] is None


@pytest.mark.parametrize("name", ["cuda", "metal"])
def test_an_absent_device_says_why(name: str) -> None:
    absence = _core.devices()[name]
    if absence is None:
        pytest.skip(f"{name} is here")
    assert name in absence.lower()


USES: dict[str, Callable[[str, Path], Any]] = {
    "model": lambda device, path: _core.Model(path, device=device),
    "memory": lambda device, path: _core.device_memory(device),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", ABSENT)
def test_an_absent_device_is_refused(tiny: Any, use: str, name: str) -> None:
    with pytest.raises(Unavailable, match=f"'{name}' is not available: .*'auto'") as raised:
        USES[use](name, tiny().path)
    assert str(_core.devices()[name]) in str(raised.value)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cpu ", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "cuda:99999999999"]
)
def test_an_unknown_device_is_refused_with_the_list(tiny: Any, use: str, name: str) -> None:
    with pytest.raises(InputError, match="expected one of auto, cuda, metal, cpu"):
        USES[use](name, tiny().path)


def test_auto_is_the_first_that_is_here(tiny: Any) -> None:
    best = next(name for name, absence in _core.devices().items() if absence is None)
    assert _core.Model(tiny().path).device.split("-")[0] == best
    assert _core.Model(tiny().path, device="cpu").device == f"cpu-{_core.isa()}"


def test_memory_of_the_cpu_is_the_machines() -> None:
    memory = _core.device_memory("cpu")
    assert 0 < memory.free <= memory.total
    if sys.platform == "linux":
        listed = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        assert memory.total == int(listed["MemTotal"].split()[0]) << 10


def test_the_greeting_says_which_device_and_why_no_better_one() -> None:
    preferred = _core.devices()["metal" if sys.platform == "darwin" else "cuda"]
    demo = _core.GgufFile(hub.embedded_model())
    on_auto, on_cpu = load(demo).summary, load(demo, device="cpu").summary
    assert on_cpu.endswith((" thread", " threads"))
    assert f" · cpu-{_core.isa()}, " in on_cpu
    if preferred is not None:
        assert on_auto == f"{on_cpu} ({preferred})"


def test_a_signal_ends_a_load(tiny: Any) -> None:
    """While the file is packed, not behind it: no Python code runs between the signal and the load."""
    done: list[Any] = []
    trip = functools.partial(pythonapi.PyErr_SetInterruptEx, int(signal.SIGINT))
    load_model = functools.partial(_core.Model, str(tiny().path))
    with pytest.raises(KeyboardInterrupt):
        done.extend(map(operator.call, (trip, load_model)))
    assert done == [0]  # had the load gone through, its model would be here
