"""`qwen35 doctor` on machines with and without cards."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cards import cards

from qwen35_local import _core
from qwen35_local.cli.doctor import nvidia_release


def doctor(*arguments: str, **settings: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qwen35_local", "doctor", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**cards(**settings), "NO_COLOR": "1"},
    )


def report(code: int = 0, **settings: int) -> dict[str, Any]:
    done = doctor("--json", **settings)
    assert (done.returncode, done.stderr) == (code, "")
    found: dict[str, Any] = json.loads(done.stdout, parse_constant=pytest.fail)
    return found


def cuda(code: int = 0, **settings: int) -> dict[str, Any]:
    found: dict[str, Any] = report(code, **settings)["devices"][0]
    assert found["kind"] == "cuda"
    return found


def test_the_machine() -> None:
    found = report(devices=0)
    cpu, models = found["cpu"], found["models"]
    assert cpu["isa"] == _core.isa() and cpu["isas"] == _core.available_isas()
    assert 0 < cpu["free_bytes"] <= cpu["memory_bytes"] and 0 < cpu["threads"] <= cpu["processors"]
    assert models["free_bytes"] > 0 and models["problem"] is None
    assert found["program"]["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"driver_version": 12040}, "CUDA 12.4"),
        ({"devices": 0}, "no NVIDIA card"),
        ({"init_result": 3}, "does not start"),
    ],
)
def test_no_card(settings: dict[str, int], said: str) -> None:
    found = cuda(**settings)
    assert said in found["absence"] and found["devices"] == []
    shown = doctor(**settings)
    assert shown.returncode == 0 and found["absence"] in shown.stdout


def test_cards_that_work() -> None:
    found = cuda(devices=2, memory=3 << 30)
    assert found["absence"] is None and found["facts"]["driver"] == "CUDA 13.0"
    assert [one["device"] for one in found["devices"]] == ["cuda:0", "cuda:1"]
    for number, one in enumerate(found["devices"], 1):
        assert one["absence"] is None and 0 < one["free_bytes"] <= 3 << 30
        assert one["facts"]["compute capability"] == "8.0" and one["facts"]["multiprocessors"] == "4"
        assert (one["facts"]["memory"], one["facts"]["bus"]) == ("3072 MiB", f"0000:0{number}:00.0")
        assert all(row["passes"] and row["difference"] <= row["expected"] for row in one["check"])
    shown = doctor(devices=1).stdout
    assert len(shown.splitlines()) <= 24
    assert shown.count(" ok") == len(found["devices"][0]["check"])


def test_an_old_card() -> None:
    (one,) = cuda(compute=75)["devices"]
    assert one["facts"]["compute capability"] == "7.5" and one["check"] == []
    assert f"not used: {one['absence']}" in doctor(compute=75).stdout


def test_a_card_that_computes_wrongly() -> None:
    (one,) = cuda(1, idle_after=12)["devices"]
    verdicts = [row["passes"] for row in one["check"]]
    assert True in verdicts and False in verdicts
    shown = doctor(idle_after=12)
    assert shown.returncode == 1
    assert f"not used: {one['absence']}" in shown.stdout and "computes wrongly in" in one["absence"]
    assert shown.stdout.count("WRONG") == verdicts.count(False)


def test_a_card_that_is_lost() -> None:
    (one,) = cuda(1, lost_after=5)["devices"]
    assert one["facts"]["name"] and "CUDA_ERROR_LAUNCH_FAILED" in one["absence"]
    assert one["check"][-1]["error"] and not one["check"][-1]["passes"]


def test_a_full_card_is_no_fault() -> None:
    (one,) = cuda(0, memory=100_000)["devices"]
    assert "is full" in one["absence"]


def test_the_release_of_the_driver(tmp_path: Path) -> None:
    path = tmp_path / "version"
    assert nvidia_release(path) is None
    path.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12.2\n"
    )
    assert nvidia_release(path) == "580.65.06"
