"""Faults of device code that a run on the host finds: each planted, each beside a right version that stays silent."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[[str, str], Path]

ABORTED, WRONG_RESULT, ASAN, TSAN = -6, 1, 1, 66
# What finds it (the fibers alone or a sanitizer), how the run ends, and what it says.
FAULTS = {
    "barrier": [("plain", WRONG_RESULT, ""), ("tsan", TSAN, "data race")],
    "next_round": [("tsan", TSAN, "data race")],
    "next_round_of_warp": [("tsan", TSAN, "data race")],
    "async_wait": [("plain", WRONG_RESULT, "")],
    "fragment": [("plain", WRONG_RESULT, "")],
    "global_bounds": [("asan", ASAN, "heap-buffer-overflow")],
    "shared_bounds": [("asan", ASAN, "use-after-poison")],
    "dynamic_bounds": [("asan", ASAN, "use-after-poison")],
    "collectives": [("plain", ABORTED, "lanes ffff0000 wait in a vote, mask ffffffff")],
    "half_barrier": [("plain", ABORTED, "warp 0: lanes fffffffe wait in __syncwarp")],
    "alignment": [("plain", ABORTED, "thread 0: cp.async: the source is not aligned")],
    "copy_in_flight": [("plain", ABORTED, "ends with asynchronous copies")],
    "between_blocks": [("tsan", TSAN, "data race")],
    "arrival": [("tsan", TSAN, "data race")],
    "dependency": [("plain", ABORTED, "ends without grid_dependency_wait")],
}


def run(program: Path, name: str, version: str, seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, name, version, str(seed)], capture_output=True, text=True)


@pytest.mark.parametrize(("name", "found"), [(name, found) for name, all in FAULTS.items() for found in all])
def test_fault_is_found(program: Program, name: str, found: tuple[str, int, str]) -> None:
    kind, code, text = found
    done = run(program("faults", kind), name, "wrong")
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    # The sanitizers name the line of device code.
    assert ("faults.cu:" in done.stderr) == (kind != "plain")


@pytest.mark.parametrize("kind", ["plain", "asan", "tsan"])
@pytest.mark.parametrize("name", FAULTS)
def test_right_version_is_silent(program: Program, name: str, kind: str) -> None:
    for seed in (0, 1, 2):
        done = run(program("faults", kind), name, "right", seed)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_order_of_blocks_shows_what_depends_on_it(program: Program) -> None:
    ends = {run(program("faults", "plain"), "between_blocks", "wrong", seed).returncode for seed in range(8)}
    assert ends == {0, WRONG_RESULT}
