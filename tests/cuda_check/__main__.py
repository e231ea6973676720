"""Everything a machine with a card can show, in under ten minutes: `make cuda-check`.

Each check is a command; its output is a file of the results folder, and summary.md says which passed, in which time.
What proves most comes first, for a machine on which the build leaves too little time for all. With --quick every check
is small enough for the driver of tests/simt: LD_LIBRARY_PATH=build/core/simt python tests/cuda_check --quick
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PYTEST = [sys.executable, "-m", "pytest", "-rs"]
CAPTURED = [sys.executable, str(Path(__file__).with_name("captured.py"))]
QWEN35 = [str(BIN / "qwen35")]
# The tests of samplers have no device; those named by an instruction set are the CPU's.
SEQUENCE = ["tests/model/test_logits.py", "tests/sequence", "--ignore-glob=*sampler*"]
ON_CARD = ["-k", "not reference and not avx and not amx and not isa"]

NO_TIME = "no time was left; run it again, now that all is built"


@dataclass
class Check:
    name: str
    command: list[str]
    seconds: int  # it may take
    environment: dict[str, str] = field(default_factory=dict)
    needs: str = ""  # a program that must be there


def bench(name: str, seconds: int, model: list[str], **options: str) -> Check:
    chosen = [part for option, value in options.items() for part in (f"--{option}", value)]
    command = [*QWEN35, "bench", *model, "--device", "cuda", *chosen, "--format", "md"]
    return Check(f"bench_{name}", command, seconds)


DOCTOR = [Check("devices", [*QWEN35, "doctor"], 60), Check("report", [*QWEN35, "doctor", "--json"], 60)]


def sanitized(tool: str) -> Check:
    """A small operation of every kind of kernel."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1", "--target-processes", "all"]
    return Check(tool, [*command, sys.executable, "-m", "qwen35_local", "doctor"], 60, needs="compute-sanitizer")


def checks() -> list[Check]:
    model = ["--synthetic", "9b"]
    once = {"repetitions": "1", "gen": "0", "depth": "0", "batch": "1"}
    decode = {"prompt": "0", "gen": "64", "repetitions": "1"}
    return [
        Check("card", ["nvidia-smi"], 20, needs="nvidia-smi"),
        *DOCTOR,
        sanitized("memcheck"),
        sanitized("racecheck"),
        Check("captured", [*CAPTURED, "500"], 60),
        bench("prefill", 120, model, **{**once, "prompt": "512,4096,32768"}),
        bench("decode", 120, model, **decode, depth="0,32768", batch="1,4,8"),
        bench("experts", 120, ["--synthetic", "35b-a3b"], prompt="512", gen="64", depth="0", batch="1,4,8"),
        Check("kernels", [*PYTEST, "tests/kernels", "-k", "cuda"], 240),
        # As deep as 64 more tokens of a context of 262,144 let it be; a quarter of the layers, since that many tokens
        # are read first.
        bench("decode_deep", 120, ["--synthetic", "9b:8"], **decode, depth="262080", batch="1,4,8", kv="q4"),
        Check("selftest", [*QWEN35, "selftest", "--device", "cuda", "-n", "8"], 120),
        Check("sequences", [*PYTEST, *SEQUENCE, *ON_CARD], 300),
    ]


def quick_checks() -> list[Check]:
    tests = ["tests/kernels/test_rms_norm.py", "-k", "cuda and not isa"]
    return [
        *DOCTOR,
        Check("kernels", [*PYTEST, *tests], 120),
        Check("captured", [*CAPTURED, "3"], 120),
        Check("selftest", [*QWEN35, "selftest", "--device", "cuda", "-n", "1", "--ctx", "256"], 240),
        bench("demo", 120, [], prompt="8", gen="2", depth="0", batch="1", repetitions="1"),
    ]


def run(check: Check, results: Path, left: float) -> tuple[str, float]:
    """How it ended, and its seconds."""
    if check.needs and shutil.which(check.needs) is None:
        return f"not run: needs {check.needs}", 0.0
    if left < 5:
        return f"not run: {NO_TIME}", 0.0
    begin = time.monotonic()
    with (results / f"{check.name}.txt").open("w") as output:
        output.write("$ " + " ".join(check.command) + "\n")
        output.flush()
        begun = subprocess.Popen(
            check.command,
            cwd=ROOT,
            env={**os.environ, **check.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = begun.wait(min(check.seconds, left))
            ended = "passed" if code == 0 else f"FAILED: exit code {code}"
        except subprocess.TimeoutExpired:
            ended = f"FAILED: not done after {check.seconds} s" if check.seconds <= left else f"not done: {NO_TIME}"
        finally:
            with suppress(ProcessLookupError):  # what it has begun would keep the card from the next
                os.killpg(begun.pid, signal.SIGKILL)
            begun.wait()
    return ended, time.monotonic() - begin


def absence() -> str:
    """Why there is no card to check; empty where there is one."""
    from qwen35_local import _core

    return _core.absence("cuda")


def summary(rows: list[tuple[Check, str, float]], results: Path) -> str:
    from qwen35_local import __version__

    git = ["git", "describe", "--always", "--dirty"]
    version = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = [f"# qwen35-local {__version__} ({version}) on {platform.node()}, {time.strftime('%Y-%m-%d %H:%M')}", ""]
    lines += ["| check | outcome | seconds |", "|---|---|---|"]
    lines += [f"| [{check.name}]({check.name}.txt) | {ended} | {seconds:.0f} |" for check, ended, seconds in rows]
    for check, ended, _ in rows:
        path = results / f"{check.name}.txt"
        if path.exists() and (check.name.startswith(("devices", "captured", "bench")) or ended != "passed"):
            lines += ["", f"## {check.name}", "", *path.read_text(errors="replace").splitlines()[-40:]]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make cuda-check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small checks, for the tests' driver")
    parser.add_argument("--results", type=Path, default=ROOT / "build/cuda-check", help="folder for what is found")
    parser.add_argument("--minutes", type=float, default=9.5, help="that all checks may take")
    parser.add_argument("--since", type=float, default=time.time(), help="when the minutes began, in seconds of Unix")
    given = parser.parse_args()

    if reason := absence():
        raise SystemExit(f"there is no card to check: {reason}")
    shutil.rmtree(given.results, ignore_errors=True)
    given.results.mkdir(parents=True)
    end = time.monotonic() + 60 * given.minutes - (time.time() - given.since)
    rows = []
    for check in quick_checks() if given.quick else checks():
        ended, seconds = run(check, given.results, end - time.monotonic())
        print(f"{check.name}: {ended} ({seconds:.0f} s)", flush=True)
        rows.append((check, ended, seconds))
        (given.results / "summary.md").write_text(summary(rows, given.results))
    print(f"{given.results / 'summary.md'} has the outcome; the folder is the report to send")
    if any(ended.startswith("FAILED") for _, ended, _ in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
