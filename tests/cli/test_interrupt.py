"""Signals, from the first line of the program to the last."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen35_local.cli import interrupt

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

AT_IMPORT = """
import builtins, os, signal, sys
real = builtins.__import__
def hooked(name, *arguments):
    if name == sys.argv[1]:
        signal.raise_signal(signal.SIGINT)
    return real(name, *arguments)
builtins.__import__ = hooked
from qwen35_local.cli.main import main
main()
"""


@pytest.mark.parametrize("module", ["signal", "typer", "qwen35_local.errors"])
def test_an_interrupt_while_the_program_starts_is_silent(module: str) -> None:
    run = subprocess.run([sys.executable, "-c", AT_IMPORT, module], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_ended_from_outside_leaves_in_order_and_once(number: int) -> None:
    interrupt.end_in_order()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)  # while what is kept is being written


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_kept_is_kept_first(number: int) -> None:
    interrupt.end_in_order()
    steps = []
    with pytest.raises(SystemExit) as ended, interrupt.undisturbed():
        signal.raise_signal(number)
        with interrupt.undisturbed():
            steps.append("inner")
            signal.raise_signal(signal.SIGTERM)
        steps.append("outer")
    assert steps == ["inner", "outer"]
    assert ended.value.code == 128 + number
    with interrupt.undisturbed():
        signal.raise_signal(number)  # the first counts


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("comes", ["before", "inside", "within what is kept there"])
def test_what_waits_for_an_end_is_ended_at_once(comes: str) -> None:
    """And the rest is done in peace."""
    interrupt.end_in_order()
    steps = []

    def wait() -> None:
        steps.append("waits")
        with interrupt.undisturbed():
            if comes == "within what is kept there":
                signal.raise_signal(signal.SIGHUP)
            steps.append("kept")
        steps.append("waits again")
        signal.raise_signal(signal.SIGHUP)
        steps.append("not ended")

    with pytest.raises(SystemExit) as ended, interrupt.undisturbed():
        if comes == "before":
            signal.raise_signal(signal.SIGHUP)
        try:
            interrupt.disturbed(wait)
        finally:
            signal.raise_signal(signal.SIGHUP)
            steps.append("left")
    ended_at = {"before": [], "inside": ["waits", "kept", "waits again"]}
    assert steps == [*ended_at.get(comes, ["waits", "kept"]), "left"]
    assert ended.value.code == 128 + signal.SIGHUP


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_reply_is_cancelled_and_ends_first(number: int) -> None:
    """Nothing that is at work is cut, but what waits for a terminal is."""
    interrupt.end_in_order()
    steps: list[str] = []
    with pytest.raises(SystemExit) as ended, interrupt.interruptible(lambda: steps.append("cancelled")):
        signal.raise_signal(number)
        steps.append("at work")
        interrupt.disturbed(lambda: steps.append("not shown"))
    assert steps == ["cancelled", "at work"]
    assert ended.value.code == 128 + number
    signal.signal(number, signal.SIG_DFL)
    interrupt.end_in_order()
    with pytest.raises(SystemExit):  # what follows is neither held nor cancelled
        signal.raise_signal(number)
    assert steps == ["cancelled", "at work"]


class Dropped:
    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_comes_while_an_object_is_let_go_of_comes_again(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    interrupt.end_in_order()
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        Dropped(number)
        time.sleep(60)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("handlers")
def test_nothing_came_and_nothing_is_changed() -> None:
    interrupt.end_in_order()
    with interrupt.undisturbed():
        pass
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGHUP)


@pytest.mark.usefixtures("handlers")
def test_a_hang_up_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt.end_in_order()
    signal.raise_signal(signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_being_ended_while_it_loads_leaves_no_folder(number: int, tmp_path: Path) -> None:
    code = f"""
import signal, sys
from qwen35_local.engine import load
load.load = lambda *arguments, **options: signal.raise_signal({int(number)})
from qwen35_local.cli.main import main
from qwen35_local.cli import chat
chat.is_terminal = lambda: True
sys.argv = ["qwen35", "chat"]
main()
"""
    environment = {**os.environ, "QWEN35_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 128 + number, run.stderr
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "cache").iterdir()) == []
