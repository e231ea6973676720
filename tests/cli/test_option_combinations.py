"""Options that have no effect beside others are refused by name, before anything is looked for; none is passed over in
silence, whatever its value."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwen35_local import _core, hub
from qwen35_local.cli import app, chat
from qwen35_local.errors import FormatError

NOWHERE = "http://127.0.0.1:9"
CHAT, SERVE = ["chat", "-p", "x", "--endpoint", NOWHERE], ["serve", "--port", "0", "--upstream", NOWHERE]
PREDICT = ["bench", "9b", "--predict", "5090"]
HERE = "of a model on this machine; leave it out with --"
QUANTIZE = ["quantize", "no-model"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(
            ([*command, *option.split()], f"{option.split()[0]}: {HERE}")
            for command in (CHAT, SERVE)
            for option in (
                "--draft 0",
                "--draft auto",
                "--threads 0",
                "--device auto",
                "--kv auto",
                "--ctx 0",
                "--memory 1G",
                "--cache 0",
                "--cache-disk 0",
            )
        ),
        ([*CHAT, "9b", "--draft", "off"], f"MODEL, --draft: {HERE}"),
        *(([*SERVE, option, "1"], f"{option}: {HERE}") for option in ("--parallel", "--queue", "--prefill-share")),
        (["chat", "-p", "x", "--api-key-file", "k"], "--api-key-file: of a server elsewhere; give its address with"),
        (["serve", "--upstream-key-file", "k"], "--upstream-key-file: of a server elsewhere; give its address with"),
        ([*SERVE, "--upstream-key-file", "no-file"], "--upstream-key-file no-file: cannot be read (No such file"),
        (["serve", "--api-key-file", "no-file"], "--api-key-file no-file: cannot be read (No such file"),
        (["serve", "--unix-socket", "s", "--port", "0", "--host", "::1"], "--host, --port: there is no address beside"),
        (["bench", "--draft", "0.5", "--gen", "0"], "--draft P drafts a reply, and --gen is 0; give a length"),
        (["bench", "--draft", "quote,0.5", "--gen", "0"], "--draft P drafts a reply, and --gen is 0; give a length"),
        (["bench", "--type", "Q4_K_M"], "--type: for --synthetic and --predict; other models have"),
        *(
            ([*PREDICT, *option.split()], f"{option.split()[0]}: for what is measured, and --predict measures nothing")
            for option in ("--draft 0.5", "--profile", "--against x", "--output x", "--synthetic 2b", "--repetitions 5")
        ),
        ([*QUANTIZE, "--imatrix", "x", "--calibrate", "builtin"], "--calibrate: --imatrix says how to round"),
        ([*QUANTIZE, "--imatrix", "x", "--calibration-tokens", "9000"], "--calibration-tokens: --imatrix says how"),
        (
            [*QUANTIZE, "--calibrate", "none", "--calibration-tokens", "9000"],
            "--calibration-tokens: there are none with",
        ),
        ([*QUANTIZE, "-t", "Q4_K_M", "-t", "q8_0"], "--type is Q4_K_M and Q8_0; expected one of them"),
        (["chat", "-p", "x", "--tools", "no-file", "no-model"], "no-file: cannot be read"),
        (["chat", "-p", "x", "--schema", "no-file", "no-model"], "no-file: cannot be read"),
        (
            ["chat", "-p", "x", "--schema", "", "no-model"],
            "the JSON schema is empty; give a file, or the schema itself",
        ),
        (["chat", "-p", "x", "--schema", "{", "--no-think"], "the JSON schema: not valid JSON"),
        (["selftest", "-n", "1", "--ctx", "10"], "nothing was checked: no reply fits into a context of 10 tokens"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_named(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chat, "read_question", lambda prompt: prompt)
    monkeypatch.setattr(sys, "argv", ["qwen35", *words])
    assert app.run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"qwen35: {said}"), err
    assert err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="sockets of Unix")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_socket_takes_the_place_of_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
    monkeypatch.setattr(sys, "argv", ["qwen35", "serve", "--unix-socket", str(path)])
    assert app.run() == 2
    assert f"{path}: cannot listen there (there is a file that is no socket)" in capsys.readouterr().err
    assert path.is_dir() if kind == "folder" else path.read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_file_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    """Its name is in what the core says of it."""
    (tmp_path / os.fsdecode(b"caf\xe9.gguf")).write_text("no model")
    program = [sys.executable.encode(), b"-m", b"qwen35_local"]
    run = subprocess.run([*program, b"info", b"caf\xe9.gguf"], capture_output=True, cwd=tmp_path, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith(b"qwen35: caf?.gguf: not a GGUF file: it is text")
    with pytest.raises(FormatError, match="caf\udce9\\.gguf: not a GGUF file"):
        _core.GgufFile(tmp_path / os.fsdecode(b"caf\xe9.gguf"))


@pytest.mark.skipif(sys.platform != "linux", reason="arguments that are no UTF-8")
def test_a_name_that_is_no_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quantize", str(hub.embedded_model()), str(tmp_path / "o.gguf"), "--allow-requantize", "--type", "Q4_0"]
    name = os.fsdecode("Zoë ".encode() + b"\xe9")
    monkeypatch.setattr(sys, "argv", ["qwen35", *words, "--calibrate", "none", "--name", name])
    assert app.run() == 0
    assert _core.GgufFile(tmp_path / "o.gguf").metadata["general.name"] == "Zoë �"
