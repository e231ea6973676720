"""The core neither prints, aborts nor exits, and ISA objects export no weak symbols: read from what is built."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qwen35_local import _core

ROOT = Path(__file__).parents[1]
CORE = ROOT / "csrc"

# What prints or ends a process, as the C library and the C++ library export it. getenv: below.
FORBIDDEN = {
    *("abort", "exit", "_exit", "_Exit", "quick_exit", "__assert_fail"),
    *("printf", "fprintf", "vprintf", "vfprintf", "dprintf", "__printf_chk", "__fprintf_chk", "perror"),
    *("puts", "fputs", "putc", "fputc", "putchar", "fwrite", "write", "stdout", "stderr"),
    *("std::cout", "std::cerr", "std::clog"),
}


def undefined(listing: str) -> set[str]:
    """What a binary takes from libraries, of the listing of `nm -C`."""
    return {match[1] for match in re.finditer(r"^\s+U ([^@\n(]+)", listing, re.M)}


def test_undefined_symbols_are_found() -> None:
    listing = (
        "  U abort@GLIBC_2.2.5\n U std::cout@GLIBCXX_3.4\n  U exit\n000 T exit_code(int)\n U std::terminate()@G_3\n"
    )
    assert undefined(listing) == {"abort", "std::cout", "exit", "std::terminate"}


@pytest.mark.skipif(platform.system() != "Linux" or shutil.which("nm") is None, reason="reads ELF with nm (binutils)")
@pytest.mark.skipif("QWEN35_SANITIZED" in os.environ, reason="the sanitizer prints and aborts")
def test_core_neither_prints_nor_exits() -> None:
    """Of the very file that is loaded, so that no spelling in the source can hide it."""
    assert _core.__file__ is not None
    listing = subprocess.run(
        ["nm", "-DC", "--undefined-only", _core.__file__], capture_output=True, text=True, check=True
    )
    found = undefined(listing.stdout)
    assert {"memcpy", "getenv"} <= found
    assert not found & FORBIDDEN


def test_core_reads_one_environment_variable() -> None:
    readers = [path.relative_to(CORE) for path in CORE.rglob("*.[ch]*") if re.search(r"\bgetenv\b", path.read_text())]
    assert readers == [Path("devices/cpu/isa.cpp")]


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
    sources = {path: f"add_{isa}_{path.stem}(" for path in sorted((CORE / "devices/cpu" / isa).glob("*.cpp"))}
    if (gemm := CORE / f"quantise/gemm_{isa}.cpp").exists():
        sources[gemm] = f"{isa}_gemm("
    assert sources
    weak = []
    for path, exported in sources.items():
        built = tmp_path / f"{path.stem}.o"
        command = [compiler, "-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", *ISA_FLAGS[isa]]
        subprocess.run([*command, "-I", str(CORE), "-c", str(path), "-o", str(built)], check=True)
        listing = subprocess.run(["nm", "-C", str(built)], capture_output=True, text=True, check=True).stdout
        assert exported in listing
        for line in listing.splitlines():
            if re.search(r" [WVu] ", line) and "DW.ref.__gxx" not in line:
                weak.append(f"{isa}/{path.name}: {line.strip()}")
    assert not weak, "\n".join(weak)
