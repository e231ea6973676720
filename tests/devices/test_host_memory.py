"""What loading a model onto a card takes of the host's memory, beside the file's own pages, which the system can take
back: two buffers of weights on their way. A table of embeddings of which the card gets rows stays in the file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cards import cards

from qwen35_local.quantize.synthetic import Synthetic, synthetic

# Anonymous memory, page-locked or not, less what the card of tests/simt has: the most of it, and when loaded.
LOAD = """
import ctypes, json, sys, threading
from qwen35_local import _core
from qwen35_local.engine import machine

cuda = ctypes.CDLL("libcuda.so.1")
cuda.simt_get.restype = ctypes.c_long
assert _core.absence("cuda") == ""

def held():
    while True:
        before = cuda.simt_get(b"used")
        found = machine.status_bytes("RssAnon")
        if cuda.simt_get(b"used") == before:
            return found - before

begin, most, is_over = held(), 0, threading.Event()

def watch():
    global most
    while not is_over.wait(0.002):
        most = max(most, held())

watcher = threading.Thread(target=watch)
watcher.start()
model = _core.Model(sys.argv[1], device="cuda", threads=2, context_tokens=512)
is_over.set()
watcher.join()
print(json.dumps([most - begin, held() - begin, cuda.simt_get(b"used")]))
"""


@pytest.mark.weighs
@pytest.mark.skipif(sys.platform != "linux", reason="reads RssAnon")
@pytest.mark.parametrize("name", ["0.8b:4", "9b:4"])
def test_a_load_takes_little_of_the_host(tmp_path: Path, name: str) -> None:
    model: Synthetic = synthetic(name, "Q4_K_M")
    path = tmp_path / "model.gguf"
    model.write(path)
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(path)], capture_output=True, text=True, env=cards(memory=16 << 30)
    )
    path.unlink()
    assert run.returncode == 0, run.stderr
    most, after, card = json.loads(run.stdout)
    print(f"{name}: {model.n_bytes >> 20} MiB, {card >> 20} on the card; of the host {most >> 20} MiB at most, "
          f"{after >> 20} when loaded")  # fmt: skip
    assert after <= most < 80 << 20
