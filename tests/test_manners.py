"""The core neither prints, aborts nor exits, and ISA objects export no weak symbols: read from the built files."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

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


# Each instruction set's folder and flags for GCC and Clang, as the build has them.
ISA_FLAGS = {
    isa: flags.split() for isa, flags in re.findall(r"add_isa\((\w+) (-[^)]*)\)", (ROOT / "CMakeLists.txt").read_text())
}


def test_every_isa_folder_is_built() -> None:
    folders = {path.name for path in (CORE / "devices/cpu").iterdir() if path.is_dir()}
    assert folders - {"reference", "simd"} == set(ISA_FLAGS)


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")
@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_isa_objects_export_no_weak_symbols(isa: str, tmp_path: Path) -> None:
    """A weak symbol compiled with one ISA's flags could be picked by the linker for every machine."""
    machine = "aarch64" if isa.startswith("neon") else "x86_64"
    compiler = "g++" if platform.machine() == machine else f"{machine}-linux-gnu-g++"
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    sources = sorted((CORE / "devices/cpu" / isa).glob("*.cpp"))
    assert sources
    weak = []
    for path in sources:
        built = tmp_path / f"{path.stem}.o"
        command = [compiler, "-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", *ISA_FLAGS[isa]]
        subprocess.run([*command, "-I", str(CORE), "-c", str(path), "-o", str(built)], check=True)
        listing = subprocess.run(["nm", "-C", str(built)], capture_output=True, text=True, check=True).stdout
        assert f"add_{isa}_{path.stem}(" in listing
        for line in listing.splitlines():
            if re.search(r" [WVu] ", line) and "DW.ref.__gxx" not in line:
                weak.append(f"{isa}/{path.name}: {line.strip()}")
    assert not weak, "\n".join(weak)
