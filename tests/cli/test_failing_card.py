"""What a person sees of a card that fails: one line, and a conversation that goes on."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cards import cards

from qwen35_local.engine.store import read_json

if sys.platform == "win32":
    pytest.skip("terminals as POSIX has them", allow_module_level=True)

from test_pty import Terminal

FAILED = "qwen35: the device failed: CUDA: .* answers CUDA_ERROR_LAUNCH_FAILED .*; `qwen35 doctor` checks it"


@functools.cache
def of_the_check() -> int:
    """Launches before any of the model's."""
    code = (
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); from qwen35_local import _core; "
        "assert _core.absence('cuda') == ''; print(cuda.simt_get(b'launches'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=cards(), check=True)
    return int(done.stdout)


def run(*arguments: str, **settings: int) -> subprocess.CompletedProcess[str]:
    """The program, on a machine with these cards."""
    return subprocess.run(
        [sys.executable, "-m", "qwen35_local", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=cards(**settings),
    )


@pytest.mark.parametrize(
    "launches", [None, 0, 60, 140], ids=["load", "first kernel of the prompt", "prompt", "decoding"]
)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_one_answer(launches: int | None, more: list[str]) -> None:
    settings = {"lost_at": 150} if launches is None else {"lost_after": of_the_check() + launches}
    done = run("chat", "-p", "Hi", "--temperature", "0", "--device", "cuda", *more, **settings)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(FAILED, last), done.stderr
    assert done.stdout == "" or done.stdout.endswith("\n")


@pytest.mark.parametrize(
    ("settings", "device", "said"),
    [
        ({"driver_version": 12040}, "auto", "knows CUDA 12.4"),
        ({"compute": 75}, "auto", "expected 8.0 or newer"),
        ({"idle_after": 3}, "auto", "computes wrongly in"),
        ({"compute": 75}, "cpu", ""),
        ({}, "auto", ""),
    ],
    ids=lambda value: "-".join(value) or "works" if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("command", [["chat", "-p", "Hi"], ["bench", "-p", "4", "-n", "0", "-d", "0", "-r", "1"]])
def test_a_card_that_is_passed_over_is_said_once(
    settings: dict[str, int], device: str, said: str, command: list[str]
) -> None:
    done = run(*command, "--device", device, **settings)
    told = [line for line in done.stderr.splitlines() if "computing on the processor" in line]
    assert done.returncode == 0 and len(told) == bool(said) and said in "".join(told), done.stderr
    assert "processor:" not in done.stdout


@pytest.mark.parametrize(
    ("settings", "device", "said"),
    [
        ({"driver_version": 12040}, "cuda", "device 'cuda' is not available: .*R580 or newer is needed"),
        ({"compute": 75}, "cuda", "device 'cuda' is not available: .*expected 8.0 or newer"),
        ({"retain_result": 46}, "cuda", "device 'cuda' is not available: .* is in use by another program alone"),
        ({"load_result": 209}, "cuda", "device 'cuda' is not available: CUDA: this build has no "),
        ({"idle_after": 3}, "cuda", "device 'cuda' is not available: the cuda device computes wrongly in "),
        ({"devices": 2}, "cuda:2", "device 'cuda:2' is not available: there is no card 2: the driver shows 2 cards"),
        ({"memory": 9_000_000}, "cuda", r".* takes .* and there are .* \(memory that is free on the device\)"),
        ({"memory": 9_000_000}, "auto", r".* takes .* What would fit: --device cpu, slower\. "),
        (
            {"fail_allocation": 150},
            "cuda",
            r".* has no 1 MiB left: \d+ of its 2048 MiB are free. Close what else uses it",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_a_card_lacks_is_one_line(settings: dict[str, int], device: str, said: str) -> None:
    done = run("chat", "-p", "Hi", "--device", device, **settings)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert re.match(f"qwen35: {said}", done.stderr), done.stderr


@pytest.mark.parametrize("launches", [10, 140], ids=["prefill", "decode"])
@pytest.mark.parametrize(("device", "revives"), [("cuda", True), ("cuda", False), ("auto", False)])
def test_a_conversation(tmp_path: Path, launches: int, device: str, revives: bool) -> None:
    """The next message loads the model again: on the card where that is back, else on the CPU where any device will do;
    where none will, each message is told so, and the messages before stay."""
    settings = {**cards(lost_after=of_the_check() + launches, revives=int(revives)), "COLUMNS": "300"}
    terminal = Terminal(tmp_path, "--device", device, "--max-tokens", "8", **settings)
    try:
        assert " · cuda, " in terminal.wait_for("Ctrl-D: leave.*›")
        terminal.type("Hi\r")
        shown = terminal.wait_for("loads the model again.*›")
        assert "! the device failed: CUDA: " in shown and "Traceback" not in shown
        terminal.type("Hello\r")
        if device == "cuda" and not revives:
            for _ in range(2):
                shown = terminal.wait_for("Use 'auto' for the best device that is here.*›")
                assert "! device 'cuda' is not available: CUDA: " in shown
                terminal.type("Hello\r")
            terminal.wait_for("Use 'auto'.*›")
            terminal.type("/exit\r")
            terminal.program.wait(60)
            return
        shown = terminal.wait_for("tok/s.*›")
        assert "the model is loaded again" in shown
        assert (" · cuda, " in shown) == revives and (" · cpu-" in shown) == (device == "auto")
        terminal.type("And you?\r")
        assert "failed" not in terminal.wait_for("tok/s.*›")
        terminal.type("/exit\r")
        assert terminal.program.wait(60) == 0
        saved = read_json(next(tmp_path.glob("sessions/*/conversation.json")))
        said = [message["content"] for message in saved["messages"] if message["role"] == "user"]
        assert said == ["Hello", "And you?"]
    finally:
        if terminal.program.poll() is None:
            terminal.program.kill()
            terminal.program.wait()
