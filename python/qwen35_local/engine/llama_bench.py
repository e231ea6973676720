"""llama.cpp's `llama-bench` as the other side of a comparison: one test, one repetition, one number."""

import shutil
import subprocess
from collections import deque
from pathlib import Path
from threading import Thread
from typing import IO, Any

from qwen35_local import json_file
from qwen35_local.engine.speed import Case
from qwen35_local.errors import InputError

OUTPUT_LIMIT_BYTES = 4 << 20

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
            code, printed, said = _run(command)
        except OSError as error:
            raise InputError(f"{self._program}: cannot be run ({error.strerror})") from error
        if len(printed) > OUTPUT_LIMIT_BYTES:
            raise InputError(f"{self._program}: prints more than {OUTPUT_LIMIT_BYTES >> 20} MiB; is it llama-bench?")
        if code:
            lines = said.decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1][:300] if lines else "it printed no reason"
            raise InputError(f"{self._program}: failed with exit code {code}: {reason}")
        return self._speed(printed, test)

    def _speed(self, output: bytes, test: Case) -> float:
        try:
            entries: Any = json_file.parse(output, self._program)
            entry: dict[str, Any] = next(e for e in entries if self._is_of(e, test))
            speed = float(entry["avg_ts"])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, StopIteration):
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


def _run(command: list[str]) -> tuple[int, bytes, bytes]:
    """The exit code, the first OUTPUT_LIMIT_BYTES + 1 of stdout, and the end of stderr. A program that prints more is
    ended. Raises OSError."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as program:
        assert program.stdout is not None and program.stderr is not None
        said: deque[bytes] = deque(maxlen=2)
        reader = Thread(target=_keep_the_end, args=(program.stderr, said), daemon=True)
        reader.start()
        try:
            printed = program.stdout.read(OUTPUT_LIMIT_BYTES + 1)
            if len(printed) > OUTPUT_LIMIT_BYTES:
                program.kill()
        except BaseException:
            program.kill()
            raise
        code = program.wait()
        reader.join()
    return code, printed, b"".join(said)


def _keep_the_end(stream: IO[bytes], kept: deque[bytes]) -> None:
    while piece := stream.read(1 << 16):
        kept.append(piece)
