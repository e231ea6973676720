"""Pages of keys and values that only snapshots hold: they lie in the host's memory, and come back for a sequence."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cards import cards

# Three conversations on one sequence, each with two snapshots on its way; then any of them is gone on with.
PROGRAM = """
import ctypes, json, sys
import numpy as np
from qwen35_local import _core
from qwen35_local.errors import InputError, OutOfMemory

cuda = ctypes.CDLL("libcuda.so.1")
cuda.simt_get.restype = ctypes.c_long
path, kv, chosen = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = _core.Model(path, device="cuda", threads=1)
texts = [[int(t) for t in np.random.default_rng(n).integers(0, 300, chosen["tokens"] + 2)] for n in range(3)]
HALF, ALL = 300, chosen["tokens"]

def set_(key, value):
    cuda.simt_set(key, ctypes.c_long(value))

def used():
    return cuda.simt_get(b"used")

def evaluated(sequence, text):
    [row] = sequence.append(text)
    return row.tobytes()

expected = {}
for n, text in enumerate(texts):
    fresh = _core.Sequence(model, kv=kv)
    fresh.append(text[:HALF], logits="none")
    expected[n, HALF] = evaluated(fresh, text[HALF : HALF + 2])
    fresh.append(text[HALF + 2 : ALL], logits="none")
    expected[n, ALL] = evaluated(fresh, text[ALL:])
    del fresh

sequence, snapshots, sizes = _core.Sequence(model, kv=kv), {}, []
set_(b"forget_wait", chosen.get("forget_wait", 0))
set_(b"fail_pinned", chosen.get("fail_pinned", 0))
for n, text in enumerate(texts):
    sequence.truncate(0)
    for begin, end in ((0, HALF), (HALF, ALL)):
        sequence.append(text[begin:end], logits="none")
        snapshots[n, end] = sequence.snapshot()
    sizes.append((used(), model.saved_page_bytes))
pages = {page.id: page.n_bytes for taken in snapshots.values() for page in taken.pages}
report = {"sizes": sizes, "pages": sum(pages.values()), "page": max(pages.values())}
report["last"] = sum({page.id: page.n_bytes for page in snapshots[2, ALL].pages}.values())
report["same"] = []

def go_on(key):
    sequence.restore(snapshots[key])
    n, end = key
    report["same"].append(evaluated(sequence, texts[n][end : end + 2]) == expected[key])

data = [page.data().tobytes() for page in snapshots[0, ALL].pages]  # of pages that lie on the host
for key in ((0, ALL), (2, HALF), (1, ALL), (0, HALF), (1, HALF), (2, ALL)):
    go_on(key)
report["after"] = used()
report["data"] = data == [page.data().tobytes() for page in snapshots[0, ALL].pages]
if chosen.get("fails"):
    report["fails"] = []
    for room in range(3):  # for so many pages, of two
        sequence.truncate(0)
        others = [_core.Sequence(model, kv=kv) for _ in range(12 + 8 * room)]  # more than there ever were
        for other in others:
            other.append([1], logits="none")
        set_(b"memory", used())
        del others[len(others) - room :], other
        fails = ""
        try:
            sequence.restore(snapshots[0, ALL])
        except OutOfMemory:
            try:
                sequence.append([1], logits="none")
            except InputError as error:
                fails = str(error)
        report["fails"].append(fails)
        set_(b"memory", 2 << 30)
        go_on((0, ALL))
        go_on((1, HALF))
        del others
del sequence
report["left"] = model.saved_page_bytes == sum(pages.values())
snapshots.clear()
report["left"] &= model.saved_page_bytes == 0
print(json.dumps(report))
"""


def run(path: Any, kv: str = "f16", *, seed: int = 0, tokens: int = 320, **chosen: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), kv, json.dumps({"tokens": tokens, **chosen})],
        capture_output=True,
        text=True,
        env=cards(seed=seed),
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_pages_leave_the_card_and_come_back(tiny: Callable[..., Any], kv: str) -> None:
    """With the same bits. Three conversations take of the card what one takes, and a page of each form through which
    they leave; of the host each page once."""
    found = run(tiny().path, kv, tokens=800)
    assert all(found["same"]) and found["data"] and found["left"]
    (one, _), (two, _), (three, saved) = found["sizes"]
    assert one < two == three == found["after"] < one + 2 * found["page"]
    assert saved == found["pages"] - found["last"]


def test_pages_that_find_no_room_stay_where_they_are(tiny: Callable[..., Any]) -> None:
    """A card that is full takes back none, or some: the sequence says that it failed midway, and goes on from any
    snapshot once there is room."""
    found = run(tiny().path, fails=1)
    first, second, third = found["fails"]
    assert "failed midway" in first and "failed midway" in second and third == ""
    assert all(found["same"]) and found["left"]


def test_without_page_locked_memory_pages_lie_in_ordinary_memory(tiny: Callable[..., Any]) -> None:
    found = run(tiny().path, fail_pinned=2)
    assert all(found["same"]) and found["left"]


@pytest.mark.parametrize("wait", [6, 7], ids=["until it is staged", "until staging is read"])
def test_a_wait_for_a_page_that_is_left_out_shows(tiny: Callable[..., Any], wait: int) -> None:
    """Two snapshots have two waits each for their states, then each page has two."""
    path = tiny().path
    assert not all(all(run(path, seed=seed, forget_wait=wait)["same"]) for seed in range(6))


BUDGET = """
import sys
from qwen35_local import _core
from qwen35_local.engine.cache import PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence

model = _core.Model(sys.argv[1], device="cuda", threads=1)
texts = [[n] * 520 for n in range(4)]
page, marks = 1 << 16, {256: "", 512: ""}

def engine(host_bytes):
    cache = PrefixCache(0, host_bytes=host_bytes, saved_page_bytes=lambda: model.saved_page_bytes)
    return CachedSequence(_core.Sequence(model), cache), cache

def held(cache):
    return sorted((int(entry.keys[0]), len(entry.keys)) for entry in cache)

cached, cache = engine(1 << 30)
cached.seek(texts[0])
cached.read(texts[0], marks)
own = max(entry.own_bytes for entry in cache)
assert held(cache) == [(0, 256), (0, 512)] and model.saved_page_bytes == 0  # the sequence has their pages
cached.seek(texts[1])
assert model.saved_page_bytes == 2 * page
cache.clear()
assert model.saved_page_bytes == 0

# For the states of four snapshots, and two pages: those of a conversation that is left.
cached, cache = engine(4 * own + 2 * page)
for n in (0, 1):
    cached.seek(texts[n])
    cached.read(texts[n], marks)
assert held(cache) == [(0, 256), (0, 512), (1, 256), (1, 512)]
assert cached.seek([*texts[0], 7]).reused == 512  # the other's pages leave as these come back
again = cached.read([*texts[0], 7], {})
assert held(cache) == [(0, 256), (0, 512), (1, 256), (1, 512)] and model.saved_page_bytes == 2 * page

def is_under_budget():
    return sum(entry.own_bytes for entry in cache) + model.saved_page_bytes <= 4 * own + 2 * page

cached.seek(texts[2])  # nothing of it is known: four pages have room for two
assert is_under_budget() and 0 < len(cache) < 4
cached.read(texts[2], marks)
assert is_under_budget()
cached.empty()
assert is_under_budget() and len(cache) > 0
fresh = CachedSequence(_core.Sequence(model))
fresh.seek([*texts[0], 7])
assert fresh.read([*texts[0], 7], {}).tobytes() == again.tobytes()
print("whole")
"""


def test_what_snapshots_alone_hold_is_under_one_budget(tiny: Callable[..., Any]) -> None:
    """Of the host: recurrent states, and pages once no sequence has them."""
    done = subprocess.run([sys.executable, "-c", BUDGET, str(tiny().path)], capture_output=True, text=True, env=cards())
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr


FULL = """
import ctypes, sys
from qwen35_local import _core

cuda = ctypes.CDLL("libcuda.so.1")
cuda.simt_get.restype = ctypes.c_long
model = _core.Model(sys.argv[1], device="cuda", threads=1)
sequence, other, *more = (_core.Sequence(model) for _ in range(4))
sequence.append([1, 2, 3], logits="none")
expected = sequence.append([4]).tobytes()
other.append([1, 2, 3], logits="none")
for each in more:
    each.append([1], logits="none")
used = cuda.simt_get(b"used")
cuda.simt_set(b"memory", ctypes.c_long(used))
taken = other.snapshot()
other.truncate(0)
other.append([9], logits="none")
assert model.saved_page_bytes == taken.pages[0].n_bytes
del more, each  # a page that a snapshot has is copied before more is written to it
other.restore(taken)
assert other.append([4]).tobytes() == expected
assert cuda.simt_get(b"used") == used
print("whole")
"""


def test_what_leaves_a_full_card_goes_straight_to_the_host(tiny: Callable[..., Any]) -> None:
    """States and pages leave by way of a copy on the card; where there is no room for one, the host waits."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tiny().path)], capture_output=True, text=True, env=cards())
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr
