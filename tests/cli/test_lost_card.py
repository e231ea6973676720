"""A card that is lost in the middle: one line, and a conversation that goes on."""

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
CHECK = 32  # launches of the self-check, before any of the model's


def test_the_check_takes_so_many_launches() -> None:
    code = (
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); from qwen35_local import _core; "
        "assert _core.absence('cuda') == ''; print(cuda.simt_get(b'launches'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=cards(), check=True)
    assert int(done.stdout) == CHECK


@pytest.mark.parametrize(
    "settings",
    [
        {"lost_at": 100},  # in the load
        {"lost_after": CHECK},  # at the first kernel of the prompt
        {"lost_after": CHECK + 60},  # in the middle of it
        {"lost_after": CHECK + 140},  # while tokens are decoded
    ],
    ids=lambda settings: "-".join(f"{name}-{value}" for name, value in settings.items()),
)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_one_answer(settings: dict[str, int], more: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qwen35_local", "chat", "-p", "Hi", "--temperature", "0", "--device", "cuda", *more],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=cards(**settings),
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(FAILED, last), done.stderr
    assert done.stdout == "" or done.stdout.endswith("\n")


@pytest.mark.parametrize("launches", [CHECK + 10, CHECK + 140], ids=["prefill", "decode"])
@pytest.mark.parametrize(("device", "revives"), [("cuda", True), ("cuda", False), ("auto", False)])
def test_a_conversation(tmp_path: Path, launches: int, device: str, revives: bool) -> None:
    """The next message loads the model again: on the card where that is back, else on the CPU where any device will do;
    where none will, each message is told so, and the messages before stay."""
    settings = {**cards(lost_after=launches, revives=int(revives)), "COLUMNS": "300"}
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
