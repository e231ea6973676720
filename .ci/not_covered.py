"""Prints what a run of CI on this machine does not show: one line each."""

import importlib.util
import platform
import re
import shutil
import sys
from pathlib import Path

from qwen35_local import _core

sys.path.insert(0, "tests")
from vocabularies import QWEN35_VOCABULARY

built = re.findall(r"add_isa\((\w+) -", Path("CMakeLists.txt").read_text())
for isa in dict.fromkeys(built):
    tools = ("aarch64-linux-gnu-g++", "qemu-aarch64") if isa.startswith("neon") else ()
    if isa in _core.available_isas():
        continue
    if tools and all(map(shutil.which, tools)):
        print(f"kernels of {isa}: run on an emulated processor only, against their scalar twins")
    else:
        print(
            f"kernels of {isa}: not run" + (f" (needs {' and '.join(tools)})" if tools else " (not this processor's)")
        )
if not shutil.which("qemu-x86_64"):
    print("older processors: no code beyond their instruction set (needs qemu-x86_64)")
if importlib.util.find_spec("torch") is None:
    print("comparisons with transformers, and the demo's training: skipped (need pip install '.[oracle]')")
if not Path("build/node/.installed").exists():
    print("the server's clients for Node: skipped (need node, npm and a network)")
if not QWEN35_VOCABULARY.exists():
    print("llama.cpp's ids of the family's vocabulary: skipped (needs QWEN35_TEST_DATA)")
print("dependencies at their lowest versions (make lowest)")
print(f"systems other than {platform.system()} on {platform.machine()}; GPUs; published weights")
