"""Snapshots on disk: the same bits in another process, and never a wrong one from a damaged file."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from wrong_values import JSON_VALUES, is_one_of

from qwen35_local import _core, hub
from qwen35_local.engine import store
from qwen35_local.engine.cache import PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence
from qwen35_local.engine.spill import Spill
from qwen35_local.errors import FormatError

TOKENS = [100 + n % 900 for n in range(600)]  # three pages of keys and values
MORE = [7, 8, 9]


def filled(model: _core.Model) -> CachedSequence:
    cached_sequence = CachedSequence(_core.Sequence(model))
    cached_sequence.read(TOKENS, {100: "the system prompt", 300: "message 1", 600: "message 2, its opening"})
    return cached_sequence


def saved(cached_sequence: CachedSequence, folder: Path, name: str = "model", kv: str = "f16") -> Path:
    store.save(folder, [(e, e.snapshot) for e in cached_sequence.cache if e.snapshot is not None], name, kv)
    return folder


def loaded(model: _core.Model, folder: Path, name: str = "model", kv: str = "f16") -> CachedSequence:
    cached_sequence = CachedSequence(_core.Sequence(model))
    store.load(folder, cached_sequence.cache, model, name, kv)
    return cached_sequence


@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("isa", ["", "reference"])
def test_another_process_reads_nothing_again(demo: _core.Model, tmp_path: Path, kv: str, isa: str) -> None:
    """Also with other instructions."""
    before = CachedSequence(_core.Sequence(demo, kv=kv))
    before.read(TOKENS, {100: "the system prompt", 600: "where message 2 starts"})
    assert before.logits is not None
    expected = [before.logits, before._sequence.fork().append(MORE)[-1]]
    saved(before, tmp_path, kv=kv)
    code = (
        "import sys, numpy as np; from pathlib import Path; from qwen35_local import _core, hub\n"
        "from qwen35_local.engine import store; from qwen35_local.engine.cached_sequence import CachedSequence\n"
        "folder, out, kv = sys.argv[1:]; model = _core.Model(hub.embedded_model(), threads=1)\n"
        "t = CachedSequence(_core.Sequence(model, kv=kv)); store.load(Path(folder), t.cache, model, 'model', kv)\n"
        "start = t.seek([100 + n % 900 for n in range(600)]); assert start.reused == 600, start\n"
        f"np.save(out, np.stack([t.logits, t._sequence.append({MORE})[-1]]))\n"
    )
    out = tmp_path / "logits.npy"
    environment = {**os.environ, **({"QWEN35_ISA": isa} if isa else {})}
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(out), kv], check=True, env=environment)
    np.testing.assert_array_equal(np.load(out), np.stack(expected))


@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_what_drafts_read_comes_back(tmp_path: Path, kv: str) -> None:
    """Keys and values of the block that drafts, and the hidden row of the last token, which the next pair needs."""
    model = _core.Model(hub.embedded_model(), threads=1, drafts=4)
    before, after = (CachedSequence(_core.Sequence(model, kv=kv)) for _ in range(2))
    before.read(TOKENS, {512: "where message 2 starts", 600: "its end"})
    saved(before, tmp_path, kv=kv)
    store.load(tmp_path, after.cache, model, "model", kv)
    assert after.seek(TOKENS).reused == 600
    pages = []
    for sequence in (before._sequence, after._sequence):
        sequence.append(MORE, logits="none")
        pages.append([page.data().tobytes() for page in sequence.snapshot().pages])
    assert pages[0] == pages[1]
    assert len(pages[0]) == (2 * 3 if kv == "f16" else 2 * (3 + 1))


def test_shared_pages_are_stored_and_held_once(demo: _core.Model, tmp_path: Path) -> None:
    cached_sequence = filled(demo)
    saved(cached_sequence, tmp_path)
    ids = {page.id for entry in cached_sequence.cache if entry.snapshot for page in entry.snapshot.pages}
    digests = {page.data().tobytes() for e in cached_sequence.cache if e.snapshot for page in e.snapshot.pages}
    assert len(ids) >= len(digests)
    kinds = [path.read_bytes()[12:16] for path in tmp_path.glob(f"*{store.SUFFIX}")]
    assert kinds.count(b"PAGE") == len(digests)
    assert loaded(demo, tmp_path).cache.n_bytes <= cached_sequence.cache.n_bytes


def test_saving_again_writes_what_is_new_and_removes_what_is_gone(demo: _core.Model, tmp_path: Path) -> None:
    cached_sequence = filled(demo)
    saved(cached_sequence, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cached_sequence.read([*TOKENS, *MORE], {603: "message 2"})
    cached_sequence.cache.remove(next(iter(cached_sequence.cache)))
    saved(cached_sequence, tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    kept = before.keys() & after.keys() - {store.STATE}
    assert kept
    assert all(before[name] == after[name] for name in kept)
    assert before.keys() - after.keys()
    assert len(loaded(demo, tmp_path).cache) == 3


def test_files_are_for_their_owner_alone(demo: _core.Model, tmp_path: Path) -> None:
    folder = saved(filled(demo), tmp_path / "new")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(("name", "kv", "reason"), [("other", "f16", "another model"), ("model", "q8", "'f16'")])
def test_another_model_or_format_is_refused(demo: _core.Model, tmp_path: Path, name: str, kv: str, reason: str) -> None:
    saved(filled(demo), tmp_path)
    with pytest.raises(FormatError, match=reason):
        loaded(demo, tmp_path, name, kv)


@pytest.mark.parametrize("version", [1, 3])  # 1 knew ids alone: it could not tell two images apart
def test_another_version_is_refused(demo: _core.Model, tmp_path: Path, version: int) -> None:
    saved(filled(demo), tmp_path)
    content = store.read_json(tmp_path / store.STATE)
    store.write_json(tmp_path / store.STATE, {**content, "version": version})
    with pytest.raises(FormatError, match=f"version is {version}; expected 2"):
        loaded(demo, tmp_path)


DIGITS = "0123456789abcdef" * 4
NO_PARTS = [DIGITS + "0", DIGITS.upper(), DIGITS + "\n", [DIGITS, 7], "../" + DIGITS[3:]]
VALUES = [*JSON_VALUES, [{}], [[]], [None], *NO_PARTS]
SNAPSHOT = ("label", "tokens", "inputs", "committed", "state", "logits", "pages")


@pytest.mark.parametrize("field", ["format", "version", "model", "kv", "snapshots", *SNAPSHOT])
def test_each_field_with_each_type(demo: _core.Model, tmp_path: Path, field: str) -> None:
    """Refused by its name; nothing is loaded then."""
    saved(filled(demo), tmp_path)
    content = store.read_json(tmp_path / store.STATE)
    snapshot = content["snapshots"][-1]
    accepted = {
        "label": [value for value in VALUES if isinstance(value, str)],
        "logits": [None],
        "snapshots": [[]],
        "inputs": [[]],
    }
    cache = PrefixCache()
    for value in VALUES:
        if is_one_of(value, accepted.get(field, [])):
            continue
        changed = {**snapshot, field: value}
        whole = {**content, "snapshots": [changed]} if field in SNAPSHOT else {**content, field: value}
        store.write_json(tmp_path / store.STATE, whole)
        with pytest.raises(FormatError) as refused:
            store.load(tmp_path, cache, demo, "model", "f16")
        said = {"format": "not a saved state", "model": "model", "kv": "kv", "pages": ""}.get(field, field)
        assert said in str(refused.value) or "another model" in str(refused.value) or "kept as" in str(refused.value)
    assert len(cache) == 0


def test_a_list_in_the_place_of_all(demo: _core.Model, tmp_path: Path) -> None:
    for value in JSON_VALUES:
        store.write_json(tmp_path / store.STATE, value)
        with pytest.raises(FormatError, match="not a saved state"):
            loaded(demo, tmp_path)


def test_parts_of_the_wrong_kind_or_number_are_refused(demo: _core.Model, tmp_path: Path) -> None:
    saved(filled(demo), tmp_path)
    content = store.read_json(tmp_path / store.STATE)
    first = content["snapshots"][-1]
    for change in (
        {"state": first["tokens"]},
        {"tokens": first["state"]},
        {"pages": first["pages"][:-1]},
        {"pages": [*first["pages"], first["pages"][0]]},
        {"logits": first["state"]},
        {"label": 3},
    ):
        store.write_json(tmp_path / store.STATE, {**content, "snapshots": [{**first, **change}]})
        with pytest.raises(FormatError):
            loaded(demo, tmp_path)


def test_damage_is_found(demo: _core.Model, tmp_path: Path) -> None:
    """Bit flips and truncations anywhere in any file; nothing is loaded then, and nothing else is raised."""
    saved(filled(demo), tmp_path)
    random = Random(5)
    files = sorted(tmp_path.iterdir())
    cache = PrefixCache()
    for round_number in range(90):
        path = random.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        if round_number % 3:
            at = random.randrange(min(len(bad), 56)) if round_number % 3 == 1 else random.randrange(len(bad))
            bad[at] ^= 1 << random.randrange(8)
        else:
            del bad[random.randrange(len(bad)) :]
        path.write_bytes(bad)
        with pytest.raises(FormatError):
            store.load(tmp_path, cache, demo, "model", "f16")
        path.write_bytes(good)
    assert len(cache) == 0
    files[0].unlink()
    with pytest.raises((FormatError, FileNotFoundError)):
        store.load(tmp_path, cache, demo, "model", "f16")


def test_a_full_disk_leaves_what_was_there(demo: _core.Model, tmp_path: Path) -> None:
    """Files may not grow beyond a limit: as with a full disk, a write fails midway."""
    cached_sequence = filled(demo)
    saved(cached_sequence, tmp_path)
    before = sorted(tmp_path.iterdir())
    cached_sequence.read([*TOKENS, *MORE], {603: "message 2"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            saved(cached_sequence, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(loaded(demo, tmp_path).cache) == 3
    assert not list(tmp_path.glob(".*"))
    assert set(before) <= set(tmp_path.iterdir())


def test_a_kill_leaves_what_was_there(tmp_path: Path, demo: _core.Model) -> None:
    """The writer dies at its every rename in turn."""
    saved(filled(demo), tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from qwen35_local import _core, hub\n"
        "from qwen35_local.engine import store; from qwen35_local.engine.cached_sequence import CachedSequence\n"
        "model = _core.Model(hub.embedded_model(), threads=1); t = CachedSequence(_core.Sequence(model))\n"
        "left = int(sys.argv[2]); replace = Path.replace\n"
        "def dying(self, target):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left < 0: os.kill(os.getpid(), 9)\n"
        "    return replace(self, target)\n"
        "Path.replace = dying\n"
        "t.read(list(range(200, 330)), {50: 'a', 130: 'b'})\n"
        "store.save(Path(sys.argv[1]), [(e, e.snapshot) for e in t.cache], 'model', 'f16')\n"
    )
    for renames in range(20):
        run = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(renames)], check=False)
        n = len(loaded(demo, tmp_path).cache)
        if run.returncode == 0:
            assert n == 2
            break
        assert run.returncode == -signal.SIGKILL
        assert n == 3
    else:
        pytest.fail("the writer never came to its end")


def test_the_identity_tells_models_apart(tmp_path: Path, demo: _core.Model) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(hub.embedded_model().read_bytes())
    file = _core.GgufFile(path)
    content = store.content(file)
    name = store.identity(content, demo)
    assert name == store.identity(store.content(_core.GgufFile(path)), _core.Model(file, threads=1))
    assert name != store.identity(content, _core.Model(file, context_tokens=2 * demo.context_tokens))
    tensor, time_ns = file.tensors[-1], path.stat().st_mtime_ns
    for change in ("byte", "time"):
        other = tmp_path / f"{change}.gguf"
        changed = bytearray(path.read_bytes())
        changed[tensor.offset] ^= change == "byte"
        other.write_bytes(changed)
        os.utime(other, ns=(time_ns, time_ns + (10**9 if change == "time" else 0)))
        assert store.content(_core.GgufFile(other)) != content


def test_the_identity_is_that_of_the_open_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(hub.embedded_model().read_bytes())
    file = _core.GgufFile(path)
    content = store.content(file)
    (tmp_path / "other").write_bytes(b"something else")
    (tmp_path / "other").replace(path)
    assert store.content(file) == content
    path = tmp_path / "in place.gguf"
    path.write_bytes(hub.embedded_model().read_bytes())
    file = _core.GgufFile(path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(FormatError, match="was changed while it was in use"):
        store.content(file)


def test_what_no_utf8_can_hold_is_kept(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", {"text": "\ud800 é"})
    assert store.read_json(tmp_path / "a.json") == {"text": "\ud800 é"}


def test_snapshots_come_back_from_disk(demo: _core.Model, tmp_path: Path) -> None:
    disk = Spill(tmp_path, demo, "f16", 1 << 30)
    cached_sequence = CachedSequence(_core.Sequence(demo), PrefixCache(1, disk, disk_tokens=50))
    cached_sequence.read(TOKENS, {100: "a", 300: "b", 600: "c"})
    assert [entry.snapshot is None for entry in cached_sequence.cache] == [True, True, False]
    branch = [*TOKENS[:400], 7]
    assert cached_sequence.seek(branch).reused == 300
    logits = cached_sequence.read(branch, {})
    assert logits is not None
    np.testing.assert_array_equal(logits, _core.Sequence(demo).append(branch)[-1])
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert cached_sequence.seek([*TOKENS[:200], 7]).reused == 0
    cached_sequence.cache.clear()
    assert disk.n_bytes == 0
    assert not list(tmp_path.iterdir())


def test_the_disk_has_a_budget_too(demo: _core.Model, tmp_path: Path) -> None:
    disk = Spill(tmp_path, demo, "f16", 4 << 20)
    cached_sequence = CachedSequence(_core.Sequence(demo), PrefixCache(1, disk, disk_tokens=1))
    cached_sequence.read(TOKENS, {at: str(at) for at in range(20, 601, 20)})
    assert disk.n_bytes <= disk.budget_bytes
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == disk.n_bytes
    assert 1 < len(cached_sequence.cache) < 10
