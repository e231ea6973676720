"""An interrupt comes anywhere: between taking a lock and entering its block, in the middle of a list's change. Nothing
waits for ever after it, and nothing that follows is another answer.

Python calls signal handlers where a function begins and behind a call of one written in C, among others; a profile
function is called there too, and what it raises is raised there.
"""

import subprocess
import sys

import pytest

from qwen35_local import hub

INTERRUPTED = """
import sys

def interrupted(act, place):
    '''Calls it, and interrupts it in this place; returns how many it came to.'''
    n = 0
    def profile(frame, event, argument):
        nonlocal n
        if event in ("call", "c_return"):
            n += 1
            if n == place:
                raise KeyboardInterrupt
    sys.setprofile(profile)
    try:
        act()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return n
"""

TURNS = """
import threading
from qwen35_local.engine.turns import Turns

turns, n_turns, at_work = Turns(), 0, None

def work():
    global n_turns, at_work
    assert at_work is None and turns.is_mine
    try:
        at_work = threading.get_ident()
        n_turns += 1
        assert at_work == threading.get_ident()
    finally:
        at_work = None

def act():
    turns.take(work, lambda: False)
    turns.take_next(work)

def take_turns():
    while True:
        turns.take(work, lambda: False)

for has_other in (False, True):
    if has_other:
        other = threading.Thread(target=take_turns, daemon=True)
        other.start()
    for place in [*range(1, interrupted(act, 0))] * (20 if has_other else 1):
        interrupted(act, place)
        assert not turns.is_mine
        act()
before = n_turns
while n_turns < before + 10:
    assert other.is_alive()
    turns.take(lambda: None, lambda: False)
"""

REPLIES = """
from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Request

engine = Engine(_core.Model(_core.GgufFile(sys.argv[1]), threads=1))
asked = Request([Message("user", "What is 12 + 30?")], Sampling(temperature=0), thinking=False, max_tokens=2)

def reply():
    *_, done = engine.reply(asked)
    return done.message

def act():
    try:
        reply()
    finally:
        engine.close()

expected = reply()
for place in range(1, interrupted(act, 0)):
    interrupted(act, place)
    assert reply() == expected
"""


@pytest.mark.parametrize("program", [TURNS, REPLIES], ids=["turns", "replies"])
def test_nothing_waits_for_ever_after_an_interrupt(program: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED + program, str(hub.embedded_model())],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
