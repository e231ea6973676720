"""stdout and stderr that are closed, full, unread or without the characters: no traceback, in every command."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwen35_local import hub
from qwen35_local.cli import piped
from qwen35_local.cli.piped import read_piped
from qwen35_local.cli.streams import Output, prepare
from qwen35_local.cli.terminal import typed
from qwen35_local.errors import InputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file descriptors as POSIX has them")

DEMO = str(hub.embedded_model())
COMMANDS = {
    "version": ["--version"],
    "usage": ["nonsense"],
    "refused": ["info", "/nowhere/ü.gguf"],
    "info": ["info", DEMO],
    "chat": ["chat", "-p", "Hello!", "--max-tokens", "4", "--no-think", "--system", "“é”"],
}
MORE = {
    "help": ["chat", "--help"],
    "plan": ["plan", "0.8b"],
    "plan --json": ["plan", "0.8b", "--json"],
    "quantize": ["quantize", DEMO, "TEMPORARY/out.gguf", "--dry-run"],
    "perplexity": ["perplexity", DEMO, "TEMPORARY/text.txt"],
    "chat --json": ["chat", "-p", "Hello!", "--max-tokens", "4", "--json"],
    "bench": ["bench", "--synthetic", "9000b"],
    "list --json": ["list", "--json"],
    "pull": ["pull", "nobody/ü"],
    "rm": ["rm", "nobody/ü"],
}
EVERY = COMMANDS | MORE
REFUSED = {"usage", "refused", "bench", "pull", "rm"}

CLOSED = "os.close({0}); sys.{1} = sys.__{1}__ = None"
FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), {0})"
UNREAD = "r, w = os.pipe(); os.close(r); os.dup2(w, {0})"
CASES = {
    "stdout closed": (CLOSED.format(1, "stdout"), COMMANDS),
    "stderr closed": (CLOSED.format(2, "stderr"), COMMANDS),
    "stdout full": (FULL.format(1), COMMANDS),
    "stdout unread": (UNREAD.format(1), EVERY),
    "stderr unread": (UNREAD.format(2), COMMANDS),
}

# Each command in a process of its own, forked from one that has the program imported already.
SCRIPT = """
import contextlib, gc, importlib, json, os, pkgutil, sys
import gguf
from qwen35_local import cli, engine, hub, quantize
from qwen35_local.cli import app, main
for package in (cli, engine, hub, quantize):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
with contextlib.suppress(Exception):
    app.app(["info", "/nowhere"], standalone_mode=False)
gc.freeze()
folder = sys.argv[1]
with open(f"{folder}/cases.json") as file:
    cases = json.load(file)
codes = {}
for case, (redirect, commands) in cases.items():
    codes[case] = {}
    for name, arguments in commands.items():
        if os.fork() == 0:
            for number in (1, 2):
                os.dup2(os.open(f"{folder}/{case}.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            exec(redirect)
            sys.argv = ["qwen35", *arguments]
            main.main()
        codes[case][name] = os.waitstatus_to_exitcode(os.wait()[1])
with open(f"{folder}/codes.json", "w") as file:
    json.dump(codes, file)
"""


@dataclass(frozen=True)
class Outcome:
    """The exit code of each command, and what all of them wrote."""

    codes: dict[str, int]
    stdout: str
    stderr: str


def outcomes(
    folder: Path, cases: dict[str, tuple[str, dict[str, list[str]]]], **environment: str
) -> dict[str, Outcome]:
    (folder / "text.txt").write_text("A text to score. " * 4)
    (folder / "cases.json").write_text(json.dumps(cases).replace("TEMPORARY", str(folder)))
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "HF_HUB_OFFLINE": "1", **environment},
        check=True,
    )
    found = {}
    for case, codes in json.loads((folder / "codes.json").read_text()).items():
        stdout, stderr = ((folder / f"{case}.{number}").read_text(errors="replace") for number in (1, 2))
        assert "Traceback" not in stderr
        assert "Exception ignored" not in stderr
        found[case] = Outcome(codes, stdout, stderr)
    return found


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return outcomes(tmp_path_factory.mktemp("streams"), CASES)


def usual(chosen: dict[str, list[str]], printed: int = 0) -> dict[str, int]:
    return {name: 2 if name in REFUSED else printed for name in chosen}


@pytest.mark.parametrize("case", ["stdout closed", "stderr closed", "stderr unread"])
def test_a_stream_that_takes_nothing(changed: dict[str, Outcome], case: str) -> None:
    assert changed[case].codes == usual(COMMANDS)


def test_stdout_on_a_full_disk(changed: dict[str, Outcome]) -> None:
    found = changed["stdout full"]
    assert found.codes == dict.fromkeys(COMMANDS, 2)
    assert found.stderr.count("qwen35: stdout: No space left on device\n") == 3


def test_stdout_that_nobody_reads(changed: dict[str, Outcome]) -> None:
    assert changed["stdout unread"].codes == usual(EVERY, 141)


def test_characters_that_the_locale_lacks(tmp_path: Path) -> None:
    found = outcomes(tmp_path, {"ascii": ("", EVERY)}, LC_ALL="C", PYTHONUTF8="0")["ascii"]
    assert found.codes == usual(EVERY)
    assert "Qwen3.5-0.8B in" in found.stdout


def test_what_was_written_is_there_and_the_rest_is_dropped() -> None:
    reader, writer = os.pipe()
    output = io.TextIOWrapper(
        io.BufferedWriter(Output(io.FileIO(writer, "w"), is_stdout=True)), encoding="ascii", errors="replace"
    )
    output.write("a “b”")
    output.flush()
    assert os.read(reader, 100) == b"a ?b?"
    os.close(reader)
    output.write("c")
    with pytest.raises(SystemExit) as ended:
        output.flush()
    assert ended.value.code == 141
    output.write("d")
    output.close()


def test_a_non_blocking_stdout_gets_all_of_it() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = b"0123456789" * 100_000
    if (child := os.fork()) == 0:
        os.close(writer)
        read = b"".join(iter(lambda: os.read(reader, 1 << 16), b""))
        os._exit(0 if read == text else 1)
    os.close(reader)
    with io.BufferedWriter(Output(io.FileIO(writer, "w"), is_stdout=True)) as output:
        output.write(text)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Stdin:
    """A pipe as stdin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reader, self.writer = os.pipe()
        self._reader = os.fdopen(reader, encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", self._reader)


def test_a_stdin_that_nobody_closes_is_gone_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(piped, "GRACE_SECONDS", 0.05)
    stdin = Stdin(monkeypatch)
    assert read_piped(is_needed=False) == ""
    assert "nothing came on stdin" in capsys.readouterr().err
    os.close(stdin.writer)


def test_what_begins_in_time_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest comes when reading has begun, and after the grace."""
    monkeypatch.setattr(piped, "GRACE_SECONDS", 0.05)
    stdin = Stdin(monkeypatch)
    os.write(stdin.writer, "Grüße, ".encode()[:3])
    if os.fork() == 0:
        import time

        time.sleep(0.3)
        os.write(stdin.writer, "Grüße, ".encode()[3:] + b"x" * 200_000 + b"\xff\n")
        os._exit(0)
    os.close(stdin.writer)
    assert read_piped(is_needed=False) == "Grüße, " + "x" * 200_000 + "\ufffd"
    os.wait()
    assert capsys.readouterr().err == ""


def test_stdin_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(piped, "LIMIT_BYTES", 1 << 20)
    with Path("/dev/zero").open() as endless, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", endless)
        with pytest.raises(InputError, match="more than 1 MiB"):
            read_piped(is_needed=False)
    monkeypatch.setattr(sys, "stdin", type("Folder", (), {"isatty": lambda s: False, "fileno": lambda s: folder})())
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(InputError, match="stdin: Is a directory"):
        read_piped(is_needed=False)
    os.close(folder)


def test_bytes_on_stdin_that_are_no_text_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = Stdin(monkeypatch)
    os.write(stdin.writer, b"y\xff\n")
    os.close(stdin.writer)
    prepare()
    assert sys.stdin.readline() == "y\ufffd\n"


def test_what_the_locale_cannot_read_is_taken_for_utf_8() -> None:
    assert typed("é") == "é"
    assert typed(os.fsdecode("é".encode())) == "é"
    assert typed("heißt".encode("latin-1").decode("ascii", "surrogateescape")) == "hei\ufffdt"
