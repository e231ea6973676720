"""Programs over the fibers, and the tests' driver with kernels of its own, each built once per run."""

import functools
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "csrc"
FIBERS = ["async_copies", "collectives", "fiber_switch", "fibers", "mma", "shared_region", "stacks"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
FLAGS = ["-std=c++20", "-O1", "-g", "-fPIC", "-ffp-contract=off", *WARNINGS, f"-I{HERE}", f"-I{CORE}"]
# The fibers themselves are compiled without ThreadSanitizer (sanitizers.h).
SANITIZERS = {"plain": [], "asan": ["-fsanitize=address,undefined"], "tsan": ["-DSIMT_TSAN"]}


def compile_with(*arguments: str | Path) -> None:
    done = subprocess.run(["g++", *map(str, arguments)], capture_output=True, text=True)
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip("this g++ has no libraries of the sanitizers")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """program("words", "tsan") builds programs/words.cu with that sanitizer."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the fibers are written for x86-64 Linux")
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("simt")

    @functools.cache
    def fibers(kind: str) -> list[Path]:
        objects = []
        for name in FIBERS:
            objects.append(folder / f"{name}_{kind}.o")
            compile_with(*FLAGS, *SANITIZERS[kind], "-c", HERE / f"{name}.cpp", "-o", objects[-1])
        return objects

    @functools.cache
    def build(name: str, kind: str) -> Path:
        race = ["-fsanitize=thread"] if kind == "tsan" else []
        source = ["-x", "c++", HERE / "programs" / f"{name}.cu", "-x", "none"]
        built = folder / f"{name}_{kind}"
        compile_with(*FLAGS, *SANITIZERS[kind], *race, *source, *fibers(kind), "-o", built)
        return built

    return build


@pytest.fixture(scope="session")
def driver(program: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `driver`, the core's side, and lib/libcuda.so.1, whose kernels are those of programs/kernels."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "lib").mkdir()
    own = [f"-I{HERE}/programs/kernels", *FLAGS, "-fvisibility=hidden", *sorted(HERE.glob("*.cpp"))]
    compile_with(*own, "-shared", "-Wl,-soname,libcuda.so.1", "-o", folder / "lib/libcuda.so.1")
    core = [CORE / "devices/cuda/driver.cpp", CORE / "devices/cuda/library.cpp"]
    compile_with(*FLAGS, HERE / "programs/driver.cpp", *core, "-o", folder / "driver", "-ldl")
    return folder
