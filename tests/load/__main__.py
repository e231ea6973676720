"""`qwen35 serve` as a program, under load.

python -m tests.load mixed --requests 10000 --clients 64
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable

from tests.load.attacks import assault
from tests.load.codewords import codewords, talks
from tests.load.leaving import leaving
from tests.load.mixed import Plan, expectations, mixed
from tests.load.program import serving
from tests.load.refusals import all_cases, refusals
from tests.load.report import Report
from tests.load.slow import slow
from tests.load.steady import steady

PARALLEL = 8
SERVER = ("--parallel", str(PARALLEL), "--cache", "0.1", "--threads", "1")


def run_mixed(count: int, clients: int, seconds: float) -> Report:
    """Of all dialects; a fifth leave."""
    expected = expectations(min(300, count))
    with serving(*SERVER, "--queue", "55") as program:
        return asyncio.run(mixed(program, Plan(expected, count, clients, leaving=0.2)))


def run_codewords(count: int, clients: int, seconds: float) -> Report:
    """Conversations with a code each."""
    told = talks(count)
    with serving(*SERVER) as program:
        return asyncio.run(codewords(program, told, clients))


def run_leaving(count: int, clients: int, seconds: float) -> Report:
    """Clients that leave while their replies are written."""
    with serving(*SERVER) as program:
        return asyncio.run(leaving(program, max(1, count // PARALLEL), PARALLEL))


def run_slow(count: int, clients: int, seconds: float) -> Report:
    """So many that write slowly, and a quarter of it that do not read."""
    with serving(*SERVER, "--queue", "300") as program:
        return asyncio.run(slow(program, count, count // 4))


def run_steady(count: int, clients: int, seconds: float) -> Report:
    """Small requests."""
    with serving(*SERVER) as program:
        return asyncio.run(steady(program, count, clients, seconds))


def run_refusals(count: int, clients: int, seconds: float) -> Report:
    """Wrong parameters, beside replies."""
    expected = expectations(40)
    with serving(*SERVER) as program:
        return asyncio.run(refusals(program, all_cases()[:count], expected, PARALLEL))


def run_attacks(count: int, clients: int, seconds: float) -> Report:
    """What is hostile."""
    report = Report()
    with serving(*SERVER) as program:
        assault(program.port, report)
    return report


RUNS: dict[str, tuple[Callable[[int, int, float], Report], int]] = {
    "mixed": (run_mixed, 10_000),
    "codewords": (run_codewords, 5_000),
    "leaving": (run_leaving, 200),
    "slow": (run_slow, 200),
    "steady": (run_steady, 100_000),
    "refusals": (run_refusals, 10_000),
    "attacks": (run_attacks, 0),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load")
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--requests", type=int, help="how many, of whatever it is")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600, help="the longest that `steady` takes")
    options = parser.parse_args()
    run, count = RUNS[options.run]
    began = time.monotonic()
    report = run(options.requests or count, options.clients, options.seconds)
    print(report)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
