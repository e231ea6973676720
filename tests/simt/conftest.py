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


def require_compiler() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the fibers are written for x86-64 Linux")
    if shutil.which("g++") is None:
        pytest.skip("needs g++")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """program("words", "tsan") builds programs/words.cu with that sanitizer."""
    require_compiler()
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


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """image("tsan", "gemm.cuh", text) builds the driver's library with that sanitizer, and with `text` in place of this
    file of csrc/devices/cuda; without it, the kernels as they stand. Only the kernels are compiled each time."""
    require_compiler()
    flags = [*FLAGS, "-ftls-model=initial-exec", "-fno-math-errno", "-fno-strict-aliasing"]
    sources = [path for path in sorted(HERE.glob("*.cpp")) if path.name != "kernels.cpp"]

    @functools.cache
    def driver(kind: str) -> list[Path]:
        folder = tmp_path_factory.mktemp(f"driver_{kind}")
        objects = [folder / f"{path.stem}.o" for path in sources]
        for path, to in zip(sources, objects, strict=True):
            compile_with(*flags, *SANITIZERS[kind], "-c", path, "-o", to)
        return objects

    @functools.cache
    def build(kind: str, file: str = "", text: str = "") -> Path:
        folder = tmp_path_factory.mktemp("image")
        if file:
            (folder / "devices/cuda").mkdir(parents=True)
            (folder / "devices/cuda" / file).write_text(text)
        race = ["-fsanitize=thread"] if kind == "tsan" else []
        kernels = [f"-I{folder}", *flags, *SANITIZERS[kind], *race, "-O0", HERE / "kernels.cpp"]
        compile_with(*kernels, "-c", "-o", folder / "kernels.o")
        library = folder / "libcuda.so.1"
        objects = [folder / "kernels.o", *driver(kind)]
        compile_with("-shared", "-Wl,-soname,libcuda.so.1", *race, *objects, "-o", library)
        return library

    return build
