"""Faults planted in the product's own kernels: the driver's library with one line of device code altered, under tests
of that kernel. Each is found: by the emulator, by the self-check that a device passes before it is used, by a test that
fails, or by ThreadSanitizer. The kernels as they stand pass the same tests. `make races` runs this."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.planted

BARRIER = "__syncthreads();"
ARRIVAL, COUNT_ALONE = "arrive(arrived, count)", "atomicAdd(arrived, 1u) % count"  # which orders nothing else
ROWS, APPEND, ATTEND = (
    "tests/kernels/test_rows.py",
    "tests/kernels/test_norm_rope_append.py",
    "tests/kernels/test_attend.py",
)
# Tests by kernel: a file, and which of it.
TESTS = {
    "matmul": (ROWS, "test_matmul and Q4_0"),
    "experts": (ROWS, "test_experts and Q4_0"),
    "normed": ("tests/kernels/test_rms_norm.py", "test_with_the_products_that_follow and lines2 and Q4_0"),
    "delta": (ROWS, "test_gated_delta_net"),
    "append": (APPEND, "test_devices_agree"),
    "spans": (ATTEND, "test_segments_do_not_see_each_other"),
    "together": (ATTEND, "test_appended_in_the_same_pass and shape1 and f16 and fills"),  # as many queries as warps
    "quantised": (ROWS, "test_attend and q4"),
    "route": ("tests/kernels/test_route.py", "test_rows_and_threads_do_not_matter"),
}


@dataclass(frozen=True)
class Fault:
    file: str  # of csrc/devices/cuda
    old: str  # once in it
    new: str
    tests: str
    kind: str  # plain or tsan

    @property
    def text(self) -> str:
        text = (ROOT / "csrc/devices/cuda" / self.file).read_text()
        assert text.count(self.old) == 1, f"{self.file} has {text.count(self.old)} times {self.old!r}"
        return text.replace(self.old, self.new)


def dropped(file: str, word: str, tests: str, kind: str, before: str = "", after: str = "") -> Fault:
    return Fault(file, before + word + after, before + after, tests, kind)


FAULTS = {
    # Asynchronous copies not waited for.
    "wait_for_stage": Fault("gemm.cuh", "copy_async_wait<1>()", "copy_async_wait<2>()", "matmul", "plain"),
    "wait_for_last_stage": Fault("gemm.cuh", "copy_async_wait<0>()", "copy_async_wait<1>()", "matmul", "plain"),
    # Fragments of the tensor cores.
    "gemm_columns": Fault("gemm.cuh", "[0][token + g][4 * t])", "[0][token + g][4 * (t ^ 1)])", "matmul", "plain"),
    "gemm_rows": Fault("tile.cuh", "lane_id() / 4 + 8 * i;", "lane_id() / 4 + 8 * (1 - i);", "matmul", "plain"),
    "attend_values": Fault("pages.cuh", "a / 4 + 8 * (a % 2)", "a / 4 + 8 * (a / 2 % 2)", "quantised", "plain"),
    # Barriers.
    "stage": dropped("gemm.cuh", BARRIER, "matmul", "tsan", after="\n    const GemmStage& stage"),
    "strands": dropped("matmul.cuh", BARRIER, "matmul", "plain", after="\n  const PanelRows rows = rows_of_panel(p.w"),
    "next_panel": dropped("matmul.cuh", BARRIER, "normed", "tsan", after="  // the parts of the last"),
    "sort": dropped("gemm_moe.cuh", BARRIER, "experts", "tsan", before="tiles;\n  }\n  "),
    "slots": dropped("moe.cuh", BARRIER, "experts", "tsan", after="\n  const unsigned count = args.top_k"),
    "delta_rows": dropped("gated_delta_net.cuh", BARRIER, "delta", "plain", after="\n    head.normalise"),
    "delta_tile": dropped("gated_delta_net.cuh", BARRIER, "delta", "tsan", after="\n    head.read"),
    "angles": dropped("append.cuh", BARRIER, "append", "tsan", before="  }\n  "),
    "partners": dropped("append.cuh", "__syncwarp();", "append", "tsan", after="\n  for (unsigned i = 0"),
    "next_head": dropped("append.cuh", "__syncwarp();", "together", "tsan", after="  // the warp's next"),
    "new_key": dropped("attend_tile.cuh", BARRIER, "together", "tsan", before="x, width);\n  }\n  "),
    "softmax": dropped("attend_scores.cuh", BARRIER, "spans", "tsan", before="p[i];\n      }\n    }\n  }\n  "),
    # From the other blocks of threads to the last one.
    "spans": Fault("warp.cuh", ARRIVAL, COUNT_ALONE, "spans", "tsan"),
    "chosen": Fault("warp.cuh", ARRIVAL, COUNT_ALONE, "route", "tsan"),
    "before_arrival": dropped("warp.cuh", BARRIER, "spans", "tsan", after="\n  if (threadIdx.x == 0) is_last"),
    "behind_arrival": dropped("warp.cuh", BARRIER, "route", "tsan", after="\n  return is_last != 0"),
}

Image = Callable[..., Path]


def library_of(name: str) -> str:
    return subprocess.run(
        ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def run(library: Path, kind: str, tests: str) -> subprocess.CompletedProcess[str]:
    file, chosen = TESTS[tests]
    environment = {**os.environ, "QWEN35_SIMT": str(library)}
    if kind == "tsan":
        environment["LD_PRELOAD"] = f"{library_of('libtsan.so')} {library_of('libstdc++.so')}"
        environment["TSAN_OPTIONS"] = "ignore_noninstrumented_modules=1 halt_on_error=1"
        environment["QWEN35_SANITIZED"] = "1"
    command = [sys.executable, "-m", "pytest", "-x", "-s", file, "-k", f"cuda and {chosen}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(image: Image, name: str) -> None:
    fault = FAULTS[name]
    done = run(image(fault.kind, fault.file, fault.text), fault.kind, fault.tests)
    found = done.stdout + done.stderr
    is_named = "ThreadSanitizer: data race" in found if fault.kind == "tsan" else "simt: block" in found
    is_refused = re.search(r"not covered:.*\bcuda\b", found) is not None
    assert is_named or is_refused or "1 failed" in found, found


@pytest.mark.parametrize(("kind", "tests"), sorted({(fault.kind, fault.tests) for fault in FAULTS.values()}))
def test_kernels_as_they_stand_pass(image: Image, kind: str, tests: str) -> None:
    done = run(image(kind), kind, tests)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr
