"""`qwen35 pull`: the plan first, then the question, then the file."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from loopback import COMMIT, LoopbackHub
from typer.testing import CliRunner, Result

from qwen35_local.cli import pull as command
from qwen35_local.cli.app import app
from qwen35_local.engine import machine
from qwen35_local.errors import FormatError, InputError
from qwen35_local.hub import embedded_model, pull
from qwen35_local.quantize.synthetic import synthetic

UNSLOTH = "unsloth/Qwen3.5-9B-GGUF"
FILE = "Qwen3.5-9B-Q4_K_M.gguf"
DEMO = embedded_model().read_bytes()
CHECKPOINT = Path(__file__).parents[2] / "models/demo/checkpoint"
runner = CliRunner()


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_budget", lambda: (24 << 30, "free"))


def run(*arguments: str, code: int = 0) -> Result:
    result = runner.invoke(app, ["pull", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refusal(*arguments: str, kind: type[Exception] = InputError) -> str:
    with pytest.raises(kind) as caught:
        run(*arguments)
    return str(caught.value)


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The header of a 9B as Q4_K_M."""
    path = tmp_path_factory.mktemp("nine") / FILE
    synthetic("9b", "Q4_K_M").write_header(path)
    return path.read_bytes()


def test_the_plan_is_shown_and_without_a_terminal_nothing_is_taken(
    hub: LoopbackHub, cache: Path, nine: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(UNSLOTH, {FILE: nine})
    hub.lengths[FILE] = 5_680_522_464
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 40}))
    with pytest.raises(InputError, match=r"nobody to ask here; `qwen35 pull 9b --yes` downloads it"):
        command.pull("9b", None, False, False)
    said = capsys.readouterr().err
    assert "9b in Q4_K_M: 5.68 GB, fits with 262,144 tokens" in said
    assert f"{UNSLOTH} at {COMMIT[:8]}, {FILE}" in said
    assert hub.sent <= 4 << 20
    assert not cache.exists()
    monkeypatch.setattr(machine, "memory_budget", lambda: (5 << 30, "free"))
    with pytest.raises(InputError):
        command.pull("9b", None, False, False)
    said = capsys.readouterr().err
    assert "9b in Q4_K_M: 5.68 GB, does not fit: " in said
    assert "with 4,096 tokens, 5.00 GiB are free; what would: 4b in Q4_K_M" in said
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 30}))
    with pytest.raises(InputError, match=r"5.68 GB are still to be written and 1.07 GB are free"):
        command.pull("9b", None, False, True)


def test_a_pulled_model_is_there(hub: LoopbackHub, cache: Path) -> None:
    hub.add(UNSLOTH, {FILE: DEMO, "mmproj-F16.gguf": b"GGUF"})
    done = run("9b", "--yes")
    path = cache / "models--unsloth--Qwen3.5-9B-GGUF" / "snapshots" / COMMIT / FILE
    assert done.stdout == f"{path}\n"
    assert path.read_bytes() == DEMO
    tenths = [line.split(" ")[0] for line in done.stderr.splitlines() if "MB/s" in line]
    assert tenths == [str(n) for n in range(10, 101, 10)]
    assert "100 % (7.28 MB of 7.28 MB), " in done.stderr
    again = run("9b")
    assert again.stdout == done.stdout
    assert "all of it is here already" in again.stderr


def test_interrupted_says_where_it_goes_on(
    hub: LoopbackHub, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(UNSLOTH, {FILE: DEMO})

    def stop(offer: object, progress: pull.Progress) -> Path:
        progress(3_000_000, len(DEMO))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pull, "download", stop)
        with pytest.raises(KeyboardInterrupt):
            command.pull("9b", None, False, True)
    assert "stopped at 41 % (3.00 MB of 7.28 MB); the same command goes on there" in capsys.readouterr().err
    begun = cache / "models--unsloth--Qwen3.5-9B-GGUF" / "blobs" / f"{pull_digest(hub)}.incomplete"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(DEMO[:3_000_000])
    assert "; 3.00 MB of it are here already" in run("9b", "--yes").stderr


def pull_digest(hub: LoopbackHub) -> str:
    from qwen35_local.hub import remote
    from qwen35_local.hub.names import SizeName

    return remote.find(SizeName("Qwen3.5-9B")).files[0].digest


def test_convert_takes_the_checkpoint(hub: LoopbackHub, cache: Path) -> None:
    hub.small = {"config.json"}
    files = [path for path in CHECKPOINT.iterdir() if path.is_file()]
    hub.add("Qwen/Qwen3.5-9B", {path.name: path.read_bytes() for path in files} | {"README.md": b"no part of it"})
    done = run("9b", "--convert", "--type", "Q8_0", "--yes")
    assert "9b in Q8_0: 22.79 MB of checkpoint, 12.05 MB when converted, fits with " in done.stderr
    made = Path(done.stdout.strip())
    assert made.parent == cache.parent / "ours" / "models"
    assert made.name.startswith("Qwen3.5-9B-") and made.name.endswith("-Q8_0.gguf")
    assert sorted(path.name for path in cache.rglob("snapshots/*/*")) == sorted(path.name for path in files)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("../9b",), "expected a size as in 9b"),
        (("/etc/passwd",), "expected a size as in 9b"),
        (("a/b/c",), "expected a size as in 9b"),
        (("user/re\x1bpo",), "names no model"),
        (("user/..",), "expected a size as in 9b"),
        (("9b:Q8_0", "--type", "Q4_K_M"), "two types for one model"),
        (("9b", "--type", "Q6_K", "--yes"), "choose with --type"),
        (("9b", "--convert", "--type", "Q9", "--yes"), "Q9"),
    ],
)
def test_what_cannot_be_pulled(hub: LoopbackHub, cache: Path, arguments: tuple[str, ...], said: str) -> None:
    hub.add(UNSLOTH, {FILE: DEMO})
    hub.add("Qwen/Qwen3.5-9B", {"config.json": (CHECKPOINT / "config.json").read_bytes(), "model.safetensors": b"x"})
    assert said in refusal(*arguments)
    if "--yes" not in arguments:
        assert hub.requests == []
    assert not cache.exists()


def test_what_does_not_run_here_is_not_downloaded(hub: LoopbackHub, cache: Path, tmp_path: Path) -> None:
    other = DEMO.replace(
        b"general.architecture" + (8).to_bytes(4, "little") + (6).to_bytes(8, "little") + b"qwen35",
        b"general.architecture" + (8).to_bytes(4, "little") + (6).to_bytes(8, "little") + b"llamaX",
    )
    hub.add("user/other", {"m-Q4_K_M.gguf": other})
    said = refusal("user/other", "--yes", kind=FormatError)
    assert said.startswith("user/other, m-Q4_K_M.gguf: not one that runs here: ")
    assert "llamaX" in said
    assert not cache.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_is_no(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(UNSLOTH, {FILE: DEMO})
    asked = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    monkeypatch.setattr(sys, "stderr", asked)
    with pytest.raises(typer.Exit) as caught:
        command.pull("9b", None, False, False)
    assert caught.value.exit_code == 1
    assert asked.getvalue().endswith("Download it? [Y/n] ")
    assert not cache.exists()


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "dumb")
    with command.download_bar(0, 10_000_000) as update:
        update(5_000_000)
    assert screen.getvalue().startswith("50 % (5.00 MB of 10.00 MB), ")


def test_the_bar_has_bytes_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with command.download_bar(1_000_000, 10_000_000) as update:
        update(5_000_000)
    shown = screen.getvalue()
    assert "5.0/10.0 MB" in shown
    assert "50%" in shown
    assert "/s" in shown or "?" in shown


def test_the_hub_library_is_loaded_only_for_a_hub() -> None:
    code = (
        "import sys, qwen35_local.cli.app, qwen35_local.cli.model as m; m.find(None)\n"
        "print('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
