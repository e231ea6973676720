"""`qwen35 serve` as a program of its own: where it is, what it counts, and what it takes of the machine."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.load.wire import Connection

CONTEXT_TOKENS = 1024


@dataclass(frozen=True)
class Use:
    """Bytes in memory, open descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Program:
    port: int
    pid: int
    log: Path

    async def metrics(self) -> dict[str, float]:
        """By name and labels, as in `qwen35_requests_total{status="200"}`, without `qwen35_`."""
        async with Connection(self.port) as connection:
            text = (await connection.ask("GET", "/metrics")).body.decode()
        samples = re.findall(r"^qwen35_(\S+) (\S+)$", text, re.M)
        return {name: float(value) for name, value in samples}

    def lines(self) -> list[str]:
        """Of the log, with what it says of each request."""
        return [line for line in self.log.read_text().splitlines() if re.match(r"\d{4}-", line)]

    def use(self) -> Use:
        folder = Path("/proc") / str(self.pid)
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        memory = int(status["VmRSS"].split()[0]) << 10
        return Use(memory, sum(1 for _ in (folder / "fd").iterdir()), int(status["Threads"]))


@contextmanager
def serving(*options: str) -> Iterator[Program]:
    """The program over the embedded model, until the end of this."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "qwen35_local", "serve", "--port", "0", "--ctx", str(CONTEXT_TOKENS)]
        environment = {**os.environ, "QWEN35_HOME": folder}
        with log.open("wb") as stderr:
            rest = ["--cache-disk", "0", "--grace", "1", *options]
            process = subprocess.Popen([*command, *rest], stderr=stderr, env=environment)
        try:
            yield Program(_port(process, log), process.pid, log)
        finally:
            process.terminate()
            process.wait(30)


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    for _ in range(1200):
        found = re.search(r"^serving at http://[^:]*:(\d+)", log.read_text(), re.M)
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"qwen35 serve did not start: {log.read_text()[-500:]}")
