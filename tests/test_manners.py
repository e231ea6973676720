"""The core neither prints, aborts nor exits, and ISA objects export no weak symbols: read from the built files."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qwen35_local import _core

ROOT = Path(__file__).parents[1]
CORE = ROOT / "csrc"

FORBIDDEN = re.compile(
    r"\b(std::cout|std::cerr|std::clog|printf|fprintf|puts|putchar|std::exit|std::abort|std::terminate|std::quick_exit|"
    r"_exit|exit\s*\(|abort\s*\(|getenv)\b"
)
# QWEN35_ISA is the one environment variable the core reads, and this is where.
ALLOWED = {"devices/cpu/isa.cpp": {"getenv"}}


def test_core_neither_prints_nor_exits() -> None:
    wrong = []
    for path in sorted(CORE.rglob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        relative = path.relative_to(CORE).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = set(FORBIDDEN.findall(line.split("//")[0])) - ALLOWED.get(relative, set())
            if found:
                wrong.append(f"{relative}:{number}: {', '.join(sorted(found))}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_isa_objects_export_no_weak_symbols(tmp_path: Path) -> None:
    """A weak symbol compiled with one ISA's flags could be picked by the linker for every machine."""
    flags = {
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "avx512": ["-mavx2", "-mfma", "-mf16c", *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni"))],
    }
    sources = [(isa, path) for isa in flags for path in sorted((CORE / "devices/cpu" / isa).glob("*.cpp"))]
    if not any(isa in _core.available_isas() for isa in flags):
        pytest.skip("needs an x86-64 machine with AVX2")
    assert sources
    weak = []
    for isa, path in sources:
        built = tmp_path / f"{isa}-{path.stem}.o"
        command = ["g++", "-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", *flags[isa]]
        subprocess.run([*command, "-I", str(CORE), "-c", str(path), "-o", str(built)], check=True)
        listing = subprocess.run(["nm", "-C", str(built)], capture_output=True, text=True, check=True).stdout
        for line in listing.splitlines():
            if re.search(r" [WVu] ", line) and "DW.ref.__gxx" not in line:
                weak.append(f"{isa}/{path.name}: {line.strip()}")
    assert not weak, "\n".join(weak)
