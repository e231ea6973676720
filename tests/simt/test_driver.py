"""The core's way to the CUDA driver, and the tests' driver itself."""

import os
import subprocess
from pathlib import Path

import pytest

NEEDED = "NVIDIA's driver R580 or newer is needed"


def run(folder: Path, mode: str, library: str = "lib", **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / library), **settings}
    return subprocess.run([folder / "driver", mode], capture_output=True, text=True, env=environment)


def test_driver_does_what_is_asked(driver: Path) -> None:
    done = run(driver, "checks")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("settings", "absence"),
    [
        ({}, ""),
        ({"SIMT_DRIVER_VERSION": "12040"}, f"the CUDA driver knows CUDA 12.4, but 13.0 is asked for; {NEEDED}"),
        ({"SIMT_DEVICES": "0"}, "the CUDA driver finds no NVIDIA card"),
        (
            {"SIMT_INIT_RESULT": "3"},
            "the CUDA driver does not start: cuInit answers CUDA_ERROR_NOT_INITIALIZED (initialization error)",
        ),
    ],
)
def test_absence(driver: Path, settings: dict[str, str], absence: str) -> None:
    assert run(driver, "absence", **settings).stdout == f"{absence}\n"


def test_absence_of_the_library(driver: Path) -> None:
    said = run(driver, "absence", library="none").stdout
    if not said.strip():
        pytest.skip("this machine has a driver")
    assert said == "there is no CUDA driver\n"


def test_absence_of_a_function(driver: Path, tmp_path: Path) -> None:
    """A library of that name that is another: no version, so too old."""
    source = tmp_path / "other.cpp"
    source.write_text('extern "C" int cuDriverGetVersion(int* version) { *version = 13000; return 0; }')
    (driver / "other").mkdir()
    subprocess.run(["g++", "-shared", "-fPIC", source, "-o", driver / "other/libcuda.so.1"], check=True)
    assert run(driver, "absence", library="other").stdout == f"the CUDA driver has no cuInit; {NEEDED}\n"
