"""The words of device code mean on the host what CUDA's and PTX's definitions say, in every build of the fibers."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["plain", "asan", "tsan"])
def test_words(program: Callable[[str, str], Path], kind: str) -> None:
    done = subprocess.run([program("words", kind)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
