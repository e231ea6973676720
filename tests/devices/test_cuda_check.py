"""What `make cuda-check` asks of speed: every row of its tables, each within its time and the context of its model."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qwen35_local.engine import speed
from qwen35_local.models.registry import SIZES

PROGRAM = Path(__file__).parents[1] / "cuda_check/__main__.py"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("cuda_check", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cuda_check", module)
    spec.loader.exec_module(module)
    return module


def cases(command: list[str]) -> list[speed.Case]:
    given = command[command.index("bench") + 1 :]
    options = dict(zip(given[::2], given[1::2], strict=True))
    lengths, depths, batches = (
        [int(n) for n in options[name].split(",")] for name in ("--prompt", "--depth", "--batch")
    )
    assert options["--device"] == "cuda"
    return speed.plan(lengths, int(options["--gen"]), depths, batches, [options.get("--kv", "f16")])  # type: ignore[list-item]


def test_speeds(program: ModuleType) -> None:
    benches = [check for check in program.checks() if check.name.startswith("bench")]
    assert all(0 < check.seconds <= 180 for check in benches)
    of_9b = [case for check in benches if "9b" in check.command for case in cases(check.command)]
    assert {case.n_prompt for case in of_9b if case.kind == "prefill"} == {512, 4096, 32768}
    decoded = {(case.depth, case.sequences) for case in of_9b if case.kind == "decode"}
    assert decoded == {(depth, rows) for depth in (0, 32768, 262_080) for rows in (1, 4, 8)}
    assert max(case.last_position for case in of_9b) == SIZES["Qwen3.5-9B"].config.context_tokens == 262_144
