"""What a command writes appears whole or not at all, and never in the place of what it reads."""

import sys
from pathlib import Path

import numpy as np
import pytest

from qwen35_local import hub
from qwen35_local.cli import app
from qwen35_local.engine import machine

TEXT = "My name is Ann. The capital of Italy is Rome.\n" * 6
BENCH = ["bench", "m.gguf", "-p", "2", "-n", "0", "-d", "0", "-r", "1", "--output"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program runs, with a model, a text, ids, a mask and logits."""
    (tmp_path / "m.gguf").write_bytes(hub.embedded_model().read_bytes())
    (tmp_path / "t.txt").write_text(TEXT)
    (tmp_path / "link.gguf").symlink_to("m.gguf")
    (tmp_path / "d").mkdir()
    np.save(tmp_path / "ids.npy", np.arange(100, 120))
    np.save(tmp_path / "mask.npy", np.arange(20) % 2 == 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SCORE = ["perplexity", "m.gguf", "--ids", "ids.npy", "--targets", "mask.npy"]
CONVERT = ["quantize", "m.gguf", "--allow-requantize", "--force"]
READ = "is itself what is read; choose another name for the output"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["perplexity", "m.gguf", "t.txt", "--save-logits", "m.gguf"], READ),
        (["perplexity", "m.gguf", "t.txt", "--save-logits", "link.gguf"], READ),
        (["perplexity", "m.gguf", "t.txt", "--save-logits", "./t.txt"], READ),
        ([*SCORE, "--per-token", "ids.npy"], READ),
        ([*SCORE, "--per-token", "mask.npy"], READ),
        ([*SCORE, "--against", "link.gguf", "--save-logits", "link.gguf"], READ),
        ([*SCORE, "--save-logits", "o.npy", "--per-token", "./o.npy"], "need a file each"),
        ([*SCORE, "--save-logits", "d"], "d: exists and is not a file"),
        ([*SCORE, "--per-token", "none/o.npy"], "none: no such folder; create it first"),
        (["imatrix", "m.gguf", "m.gguf", "--force"], READ),
        (["imatrix", "m.gguf", "t.txt", "--calibrate", "t.txt", "--force"], READ),
        (["imatrix", "m.gguf", "t.txt"], "replace it with --force"),
        (["imatrix", "m.gguf", "d", "--force"], "d: exists and is not a file"),
        (["imatrix", "m.gguf", "none/o.gguf"], "none: no such folder; create it first"),
        ([*CONVERT, "m.gguf"], READ),
        (["quantize", "m.gguf", "t.txt", "--allow-requantize", "--force", "--calibrate", "t.txt"], READ),
        (["quantize", "m.gguf", "t.txt", "--allow-requantize", "--force", "--imatrix", "t.txt"], READ),
        ([*BENCH, "m.gguf"], READ),
        ([*BENCH, "d"], "d: exists and is not a file"),
        ([*BENCH, "none/b.txt"], "none: no such folder; create it first"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_is_written_over_what_is_read(
    folder: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    monkeypatch.setattr(sys, "argv", ["qwen35", *words])
    assert app.run() == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
    assert content(folder) == before


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_a_benchmark_that_does_not_end_leaves_the_last_one(
    folder: Path, style: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.txt").write_text("the last one")
    before = content(folder)

    def interrupted(device: str, threads: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "measure", interrupted)
    monkeypatch.setattr(sys, "argv", ["qwen35", *BENCH, "b.txt", "--format", style])
    assert app.run() == 130
    assert content(folder) == before
