"""CUDA cards by number, and which of them are trusted."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from cards import cards

FULL = "the memory of the cuda device is full: .* MiB are free. Close what else uses it"


def ask(expression: str, **settings: int) -> Any:
    """What it is on a machine with these cards; of an error its class and words."""
    code = (
        "import json; from qwen35_local import _core, errors, hub\n"
        f"try: value = {expression}\n"
        "except errors.Qwen35Error as error: value = [type(error).__name__, str(error)]\n"
        "print(json.dumps(value))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=cards(**settings))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("device", "name"), [("auto", "cuda"), ("cuda", "cuda"), ("cuda:0", "cuda"), ("cuda:1", "cuda:1")]
)
def test_a_card_by_number(device: str, name: str) -> None:
    assert ask(f"_core.Model(hub.embedded_model(), device={device!r}).device", devices=2) == name
    assert ask(f"_core.device_memory({device!r}).total", devices=2, memory=1 << 30) == 1 << 30


@pytest.mark.parametrize(("count", "shown"), [(1, "1 card"), (2, "2 cards")])
def test_a_number_without_a_card(count: int, shown: str) -> None:
    kind, message = ask("_core.device_memory('cuda:2').total", devices=count)
    assert kind == "Unavailable"
    assert f"device 'cuda:2' is not available: there is no card 2: the driver shows {shown}, numbered from 0" in message


def test_the_cpu_is_one_device() -> None:
    assert ask("_core.absence('cpu:0')") == ""
    assert ask("_core.device_memory('cpu:1').total")[0] == "Unavailable"


def test_a_card_that_computes_as_the_cpu_is_trusted() -> None:
    failure, operations = ask("_core.self_check('cuda')")
    assert failure == ""
    assert len(operations) == 11
    assert all(passes and difference <= expected for _, difference, expected, _, _, passes in operations)
    assert max(difference for _, difference, *_ in operations) > 0  # it was computed elsewhere
    assert ask("_core.absence('cuda')") == ""


def test_a_card_measures_itself() -> None:
    """By its own memory and cache, through the same call as a processor."""
    measure = "__import__('qwen35_local.engine.machine', fromlist=['measure']).measure"
    found = ask(f"{measure}('auto', 1).as_dict()", memory=1 << 26, cache=1 << 22)
    assert (found["device"], found["caches"], found["memory_bytes"]) == ("cuda", {"L2": 1 << 22}, 1 << 26)
    assert found["card"].startswith("simt")
    assert 0 < found["read_buffer_bytes"] < 0.4 * (1 << 26)
    for rate in ("read_gb_per_s", "int8_gops"):
        assert found[rate]["one"] is None and found[rate]["all"] > 0


@pytest.mark.parametrize("measured", ["read_memory(4096, device='cuda')", "multiply_int8(device='cuda')"])
def test_a_card_that_does_nothing_has_no_rate(measured: str) -> None:
    """Once trusted, its kernels do nothing: it counts itself what it did."""
    idle = "__import__('ctypes').CDLL('libcuda.so.1').simt_set(b'idle_after', 0)"
    kind, message = ask(f"(_core.absence('cuda'), {idle}, _core.{measured}.count)")
    assert kind == "DeviceError"
    assert re.search(r"did 0 of \d+ steps of a measurement; do not trust this card", message)


@pytest.mark.parametrize("launches", [0, 2, 9, 20])
def test_a_card_that_computes_wrongly_is_absent(launches: int) -> None:
    """From some launch on its kernels do nothing."""
    absence = ask("_core.absence('cuda')", idle_after=launches)
    assert "the cuda device computes wrongly in " in absence and "qwen35 doctor" in absence
    failure, operations = ask("_core.self_check('cuda')", idle_after=launches)
    assert absence == f"{failure}; `qwen35 doctor` shows more"
    failed = next(operation for operation in operations if not operation[-1])
    assert f"{failed[0]} (difference {failed[1]:.2g}, expected at most {failed[2]:.2g})" in absence
    assert ask("_core.Model(hub.embedded_model()).device", idle_after=launches).startswith("cpu-")
    assert absence in ask("_core.Model(hub.embedded_model(), device='cuda').device", idle_after=launches)[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lost_after": 5}, "the cuda device fails in .*CUDA_ERROR_LAUNCH_FAILED"),
        ({"memory": 100_000}, FULL),
        ({"fail_allocation": 1}, FULL),
        ({"compute": 75}, "compute capability 7.5, expected 8.0 or newer"),
        ({"retain_result": 46}, "simt, .* is in use by another program alone, .*nvidia-smi"),
        ({"driver_version": 12040}, "R580 or newer is needed"),
        ({"devices": 0}, "finds no NVIDIA card"),
        ({"load_result": 209}, "has no CUDA kernels|has no kernels for"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_card_that_cannot_be_used(settings: dict[str, int], said: str) -> None:
    absence = ask("_core.absence('cuda')", **settings)
    assert re.search(said, absence), absence
    assert ask("_core.Model(hub.embedded_model()).device", **settings).startswith("cpu-")
    kind, message = ask("_core.Model(hub.embedded_model(), device='cuda').device", **settings)
    assert kind == "Unavailable" and re.search(said, message), message


def test_the_greeting_says_why_no_card() -> None:
    summary = ask(
        "__import__('qwen35_local.engine.load').engine.load.load(_core.GgufFile(hub.embedded_model())).summary",
        idle_after=0,
    )
    assert re.search(r" · cpu-\S+, .* threads \(the cuda device computes wrongly in .*\)$", summary), summary
