"""llama.cpp's `llama-bench` as the other side of a comparison: one test, one repetition, one number."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from qwen35_local.engine.speed import Case
from qwen35_local.errors import InputError

# Types of K and V; a quantised V needs flash attention there.
_CACHE = {
    "f16": (),
    "q8": ("-ctk", "q8_0", "-ctv", "q8_0", "-fa", "1"),
    "k8v4": ("-ctk", "q8_0", "-ctv", "q4_0", "-fa", "1"),
    "q4": ("-ctk", "q4_0", "-ctv", "q4_0", "-fa", "1"),
}


class LlamaBench:
    """Raises InputError for a program that is not there, fails, or prints something else than llama-bench does."""

    def __init__(self, program: str) -> None:
        found = shutil.which(str(Path(program).expanduser()))
        if found is None:
            raise InputError(f"{program}: no such program; expected the path of llama.cpp's llama-bench")
        self._program = found

    @staticmethod
    def has(test: Case) -> bool:
        """Whether llama-bench has the same test."""
        return test.sequences == 1 and test.kind in ("prefill", "decode")

    def tokens_per_s(self, model: Path, test: Case, threads: int) -> float:
        """On the CPU, with the program's own defaults for everything that is not the test."""
        sizes = {"-p": test.n_prompt, "-n": test.n_gen, "-d": test.depth, "-t": threads, "-r": 1, "-ngl": 0}
        options = [word for flag, value in sizes.items() for word in (flag, str(value))]
        command = [self._program, "-m", str(model), *options, *_CACHE[test.kv], "-o", "json"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise InputError(f"{self._program}: cannot be run ({error.strerror})") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            reason = said[-1][:300] if said else "it says nothing"
            raise InputError(f"{self._program}: failed with exit code {done.returncode}: {reason}")
        return self._speed(done.stdout, test)

    def _speed(self, output: bytes, test: Case) -> float:
        try:
            entries = json.loads(output)
            entry: dict[str, Any] = next(e for e in entries if self._is_of(e, test))
            speed = float(entry["avg_ts"])
        except (ValueError, TypeError, KeyError, AttributeError, StopIteration):
            speed = 0.0
        if not 0 < speed < float("inf"):
            start = output[:60].decode("utf-8", "replace")
            raise InputError(
                f"{self._program}: printed {start!r}; expected JSON with n_prompt {test.n_prompt}, n_gen {test.n_gen} "
                "and avg_ts, as llama-bench -o json does"
            )
        return speed

    @staticmethod
    def _is_of(entry: dict[str, Any], test: Case) -> bool:
        sizes = (entry["n_prompt"], entry["n_gen"], entry.get("n_depth", 0))
        return sizes == (test.n_prompt, test.n_gen, test.depth)
