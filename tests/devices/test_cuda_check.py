"""What `make cuda-check` asks of speed: every row of its tables, each within its time and the context of its model; and
what it leaves behind."""

import importlib.util
import sys
import time
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
    of_9b = [case for check in benches if {"9b", "9b:8"} & {*check.command} for case in cases(check.command)]
    assert {case.n_prompt for case in of_9b if case.kind == "prefill"} == {512, 4096, 32768}
    decoded = {(case.depth, case.sequences) for case in of_9b if case.kind == "decode"}
    assert decoded == {(depth, rows) for depth in (0, 32768, 262_080) for rows in (1, 4, 8)}
    assert max(case.last_position for case in of_9b) == SIZES["Qwen3.5-9B"].config.context_tokens == 262_144


def test_what_was_found_is_written(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each check's output in a file of its own; the summary shows what failed, why what was left out was, and times."""

    def check(name: str, code: str, seconds: int = 60, needs: str = "") -> object:
        return program.Check(name, [sys.executable, "-c", code], seconds, needs=needs)

    found = [
        check("good", "print('quiet')"),
        check("bad", "raise SystemExit('what went wrong')"),
        check("slow", "print('begun', flush=True); import time; time.sleep(60)", seconds=1),
        check("bench_rows", "print('| decode | 1 |')"),
        check("devices", "print('RTX 3090')"),
        check("elsewhere", "", needs="no-such-program"),
    ]
    monkeypatch.setattr(program, "checks", lambda: found)
    monkeypatch.setattr(program, "absence", lambda: "")

    monkeypatch.setattr(sys, "argv", ["cuda-check", "--results", str(tmp_path / "found")])
    with pytest.raises(SystemExit, match="1"):
        program.main()
    assert f"{tmp_path / 'found/summary.md'} has the outcome" in capsys.readouterr().out
    shown = (tmp_path / "found/summary.md").read_text().splitlines()
    rows = [line for line in shown if line.startswith("| [")]
    assert [row.split("|")[2].strip() for row in rows] == [
        "passed",
        "FAILED: exit code 1",
        "FAILED: not done after 1 s",
        "passed",
        "passed",
        "not run: needs no-such-program",
    ]
    assert {"what went wrong", "begun", "| decode | 1 |", "RTX 3090"} <= {*shown} and "quiet" not in shown
    assert "quiet" in (tmp_path / "found/good.txt").read_text()


def test_what_the_build_took_is_taken_from_the_checks(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check for which there is too little time has not failed."""
    monkeypatch.setattr(program, "absence", lambda: "")
    for left, takes, outcome in ((2, 0, "not run: no time"), (6, 60, "not done: no time"), (50, 0, "passed")):
        command = [sys.executable, "-c", f"import time; time.sleep({takes})"]
        monkeypatch.setattr(program, "checks", lambda command=command: [program.Check("late", command, 60)])
        options = ["--results", str(tmp_path / "found"), "--since", str(time.time() + left - 570)]
        monkeypatch.setattr(sys, "argv", ["cuda-check", *options])
        program.main()
        assert f"| {outcome}" in (tmp_path / "found/summary.md").read_text()
