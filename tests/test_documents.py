"""Every command that README and the documents print runs as it is written; what is not run here is named, with why."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documents import DOCUMENTS, ROOT, commands, transcripts

from qwen35_local import hub

FOUND = {command: path for path in DOCUMENTS for command in commands(path.read_text())}

# A command as it is written, and as it is run here: names in capitals stand for something, large counts are made small.
RUN = {
    'qwen35 chat -p "…"': "qwen35 chat -p Hello!",
    "qwen35 chat": "qwen35 chat",
    "qwen35 chat [MODEL]": "qwen35 chat {demo}",
    "qwen35 chat --temperature 0 --think": "qwen35 chat --temperature 0 --think",
    "qwen35 quantize MODEL [OUT] --type Q4_K_M": (
        "qwen35 quantize {checkpoint} {folder}/out.gguf --type Q4_K_M --calibration-tokens 8192"
    ),
    "qwen35 quantize runs/natural/latest natural-BF16.gguf --type BF16": (
        "qwen35 quantize {checkpoint} {folder}/out.gguf --type BF16"
    ),
    "qwen35 perplexity natural-BF16.gguf --ids IDS/held-out.npy --ctx 1024": (
        "qwen35 perplexity {demo} --ids {ids} --ctx 64"
    ),
    "qwen35 imatrix MODEL OUT.gguf": "qwen35 imatrix {checkpoint} {folder}/out.gguf --calibration-tokens 8192",
    "qwen35 perplexity MODEL FILE": "qwen35 perplexity {demo} {text}",
    "qwen35 perplexity qwen35-demo-TYPE.gguf --ids IDS.npy --targets MASK.npy --ctx 1024 "
    "--against qwen35-demo-BF16.gguf": (
        "qwen35 perplexity {demo} --ids {ids} --targets {mask} --ctx 64 --against {demo}"
    ),
    "python -m models.demo.training.held_out IDS.npy MASK.npy": (
        "python -m models.demo.training.held_out {folder}/held.npy {folder}/mask.npy --tokens 1000"
    ),
    "qwen35 bench [MODEL]…": "qwen35 bench {demo} -p 16 -n 4 -d 0 --batch 1 -r 1",
    "qwen35 bench MODEL --draft P,...|quote|skills": "qwen35 bench {demo} --draft 0.5 -n 4 -d 0 -r 1",
    "qwen35 plan MODEL": "qwen35 plan {demo}",
    "qwen35 plan MODEL --parallel N": "qwen35 plan {demo} --parallel 4",
    "qwen35 plan MODEL|SIZE": "qwen35 plan 9b --memory 1T",
    "qwen35 plan MODEL --device cuda --memory 24G": "qwen35 plan 9b --device cuda --memory 24G",
    "qwen35 bench MODEL --predict 3090|4090|5090|h200": "qwen35 bench 35b-a3b --predict 5090",
    "qwen35 selftest [MODEL]": "qwen35 selftest {demo} --scenarios 1",
    "qwen35 selftest [MODEL] --scenarios N --seed S": "qwen35 selftest {demo} --scenarios 1 --seed 3",
    "qwen35 doctor": "qwen35 doctor",
    "qwen35 doctor --json": "qwen35 doctor --json",
    "qwen35 info MODEL": "qwen35 info {demo}",
    "qwen35 list": "qwen35 list",
    "python -m models.demo.training.long FILE --tokens 1000000 --kv q4": (
        "python -m models.demo.training.long {demo} --tokens 1000 --kv q4"
    ),
    "python -m models.demo.training.cache FILE --window 4096 --windows 4": (
        "python -m models.demo.training.cache {demo} --window 32 --windows 1"
    ),
    "python -m models.demo.training.loops FILE --limit 60": (
        "python -m models.demo.training.loops {demo} --limit 1 --written 1 --tokens 64"
    ),
    "python -m models.demo.training.acceptance FILE.gguf": (
        "python -m models.demo.training.acceptance {demo} --skill story --count 1"
    ),
    "python -m models.demo.training.evaluate BF16.gguf --versus Q4_K_M.gguf --count 400": (
        "python -m models.demo.training.evaluate {demo} --versus {demo} --count 1"
    ),
}
# Printed with what they print, which is compared.
PRINTED = {shown.command: shown for path in DOCUMENTS for shown in transcripts(path.read_text())}
PLANS = [command for command in PRINTED if command.startswith("qwen35 plan ")]

LLAMA = "takes turns with llama.cpp's llama-bench"
DOWNLOADS = "downloads a model; tests/hub runs it against a hub of its own"
INSTALLS = "installs from the network; CI runs it"
CARD = "needs a card; tests/devices/test_cuda.py holds conversations on the driver of tests/simt"
ELSEWHERE = "needs a server on another machine; tests/remote, tests/cli and tests/server have one of their own"
NOT_RUN = {
    "qwen35 chat --endpoint URL": ELSEWHERE,
    "qwen35 serve --upstream URL": ELSEWHERE,
    "qwen35 chat --device cuda": CARD,
    "qwen35 selftest --device cuda": CARD,
    "qwen35 chat 9b": DOWNLOADS,
    "qwen35 pull 9b": DOWNLOADS,
    "qwen35 pull NAME": DOWNLOADS,
    "python -m tests.load.throughput --llama-server PATH": "takes minutes and llama.cpp's server",
    "qwen35 serve [MODEL]": "runs until it is asked to end; tests/server does so",
    "python -m tests.load RUN": "takes minutes; tests/server/test_load.py does each in small",
    "qwen35 serve --help": "tests/cli/test_command_line.py asks every command for its help",
    "qwen35 rm NAME": "removes a model; tests/hub/test_removal.py runs it in folders of its own",
    "qwen35 chat --continue": "goes on with the conversation above it; tests/cli/test_pty.py does so",
    "qwen35 bench --synthetic 2b --type Q4_0 -p 512 -n 64 -d 0 --batch 1,4 -r 5 --against llama-bench": LLAMA,
    "qwen35 bench --synthetic 0.8b --type Q8_0 -p 512 -n 32 -d 0 --batch 1 -r 2 --against llama-bench": LLAMA,
    "qwen35 bench --synthetic 0.8b --type Q4_0 -p 0 -n 64 -d 0 --batch 1,4,16 -t 1": "takes minutes",
    "qwen35 bench --synthetic 0.8b --type Q4_0 -p 0 -n 96 -d 0 --batch 1 -r 5 --draft 0,0.5,0.7,0.9": "takes minutes",
    "qwen35 bench -p 0 -n 8 -d 0 --batch 1 -r 3 --draft skills -t 1": "takes minutes",
    "python -m models.demo.training.train --minutes 113 --out runs/one": "trains for two hours",
    "python -m models.demo.training.corpus FOLDER IDS": "reads packages of Debian; tests/models/demo/test_corpus.py",
    "python -m models.demo.training.train --text IDS --no-quantised --minutes 50 --out runs/natural": "trains for long",
    "python -m models.demo.training.MODULE": "stands for those above",
    "pip install -Ccmake.define.QWEN35_CUDA=ON .": INSTALLS,
    "python -m build": INSTALLS,
    "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/qwen35 chat": INSTALLS,
    "python3 -m venv .venv && .venv/bin/pip install -q '.[test]' && .venv/bin/python -m pytest": INSTALLS,
    "pip install '.[oracle]'": INSTALLS,
    "python -m pytest tests/kernels tests/sequence": "a part of this very suite",
    "cmake -G Ninja -S . -B build/dev && cmake --build build/dev": "builds the core; `make warnings` builds it alike",
}


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this machine's models and conversations, and nothing left among them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OLLAMA"))}
    home = {"HOME": str(folder), "QWEN35_HOME": str(folder / "home"), "COLUMNS": "120", "NO_COLOR": "1"}
    return {**kept, **home, "XDG_DATA_HOME": str(folder / "data"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def run(command: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    program, *words = command.split()
    start = [sys.executable, *(["-m", "qwen35_local"] if program == "qwen35" else [])]
    return subprocess.run(
        [*start, *words],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(folder),
        cwd=folder,
        check=False,
        timeout=300,
    )


def test_every_command_is_run_or_says_why_not() -> None:
    made = {command for command in FOUND if command.startswith(("make ", "./.ci", ".ci"))}
    known = RUN.keys() | NOT_RUN.keys() | set(PLANS)
    named = {command for command in FOUND if any(other.startswith(command + " ") for other in known)}  # `qwen35 plan`
    unknown = FOUND.keys() - made - known - named
    assert not unknown, "in none of RUN, PLANS and NOT_RUN: " + "; ".join(f"{FOUND[c].name}: {c}" for c in unknown)
    gone = (RUN.keys() | NOT_RUN.keys()) - FOUND.keys()
    assert not gone, f"no document prints this any more: {gone}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {command.split()[1] for command in FOUND if command.startswith("make ")}
    assert {"setup", "check"} <= named <= targets


def test_what_is_run_is_what_is_written() -> None:
    """Same program, same words and options; only names in capitals, optional parts and counts are replaced."""
    for written, done in RUN.items():
        words = [word for word in written.split() if re.fullmatch(r"-{0,2}[a-z][\w.-]*", word) and ".gguf" not in word]
        rest = iter(done.split())
        assert all(word in rest for word in words), (written, done)


@pytest.mark.parametrize("written", RUN)
def test_command_runs(written: str, tmp_path: Path) -> None:
    text, ids, mask = (tmp_path / name for name in ("text.txt", "ids.txt", "mask.npy"))
    text.write_text("What is the capital of France? The capital of France is Paris. " * 20)
    ids.write_text(" ".join(str(n) for n in range(100, 228)))
    np.save(mask, np.arange(128) < 64)
    names = {"demo": hub.embedded_model(), "checkpoint": ROOT / "models/demo/checkpoint", "folder": tmp_path}
    done = run(
        RUN[written].format(**names, text=text, ids=ids, mask=mask), tmp_path, stdin="What is the capital of France?"
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a plan depends on the number of processors")
@pytest.mark.parametrize("command", PLANS)
def test_plan_prints_what_is_shown(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN35_ISA", "reference")  # what operations keep depends on the instruction set
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("the plans that are shown are for two processors")
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        done = run(command, tmp_path)
    finally:
        os.sched_setaffinity(0, before)
    assert done.returncode in (0, 3), done.stderr
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    while printed and not printed[-1]:
        printed.pop()
    assert printed == PRINTED[command].output
