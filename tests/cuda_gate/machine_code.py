"""What a compiled kernel is: its registers and memory by cuobjdump, its instructions by nvdisasm."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

RESOURCES = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
CODE = re.compile(r"^\.text\.(\w+):\n(.*?)(?=^//-----|\Z)", re.DOTALL | re.MULTILINE)
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")
SYSTEM_SHARED = 1024  # which cuobjdump counts as a kernel's own from 9.0 on


@dataclass(frozen=True)
class Compiled:
    registers: int
    stack: int  # bytes of a thread's local memory: arrays that are indexed, and registers that were spilled
    shared: int  # bytes
    instructions: Counter[str]

    def count(self, name: str) -> int:
        """Of `name` and all its kinds: LDG.E.128 is also LDG.E.128.CONSTANT."""
        return sum(n for found, n in self.instructions.items() if f"{found}.".startswith(f"{name}."))


def run(tool: str, folder: Path, *arguments: str | Path) -> str:
    program = folder / tool if (folder / tool).exists() else shutil.which(tool)
    if program is None:
        raise SystemExit(f"{tool} is neither in {folder} nor on PATH; `make gate` installs it")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def read_cubin(cubin: Path, arch: str, tools: Path) -> dict[str, Compiled]:
    """By kernel."""
    code = {
        name: Counter(INSTRUCTION.findall(body))
        for name, body in CODE.findall(run("nvdisasm", tools, "--print-code", cubin))
    }
    found = {}
    for name, *numbers in RESOURCES.findall(run("cuobjdump", tools, "-res-usage", cubin)):
        registers, stack, shared, local = map(int, numbers)
        shared -= SYSTEM_SHARED if int(arch) >= 90 else 0
        found[name] = Compiled(registers, stack + local, shared, code[name])
    return found
