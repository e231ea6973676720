"""A download is whole and right or it is not there, and goes on wherever it was cut off."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from loopback import COMMIT, LoopbackHub, git_sha1

from qwen35_local.errors import InputError
from qwen35_local.hub import embedded_model, hub_cache, pull, pulled, remote, transfer, wire
from qwen35_local.hub.names import RepositoryName
from qwen35_local.hub.offer import Offer

REPOSITORY = "user/repo"
FILE = "m-Q4_K_M.gguf"
DEMO = embedded_model().read_bytes()
CONTENT = random.Random(5).randbytes(300_000)


def offer_of(hub: LoopbackHub, files: dict[str, bytes] | None = None) -> Offer:
    hub.add(REPOSITORY, files or {FILE: CONTENT})
    return remote.find(RepositoryName(*REPOSITORY.split("/")))


def got(offer: Offer) -> Path:
    return pull.download(offer, lambda done, total: None)


def named_files(cache: Path) -> list[Path]:
    """What a user of the cache would find."""
    return [path for path in cache.rglob("snapshots/*/*") if path.is_file()]


def blob(cache: Path, offer: Offer, suffix: str = "") -> Path:
    return cache / "models--user--repo" / "blobs" / f"{offer.files[0].digest}{suffix}"


def test_the_library_finds_what_was_downloaded(hub: LoopbackHub, cache: Path) -> None:
    hub.small = {"config.json"}
    files = {"config.json": b"{}", "model.safetensors": CONTENT}
    folder = got(offer_of(hub, files))
    assert folder == cache / "models--user--repo" / "snapshots" / COMMIT
    for name, content in files.items():
        path = huggingface_hub.hf_hub_download(REPOSITORY, name, cache_dir=cache, local_files_only=True)
        assert Path(path) == folder / name
        assert Path(path).read_bytes() == content
    assert (folder / "config.json").resolve().name == git_sha1(b"{}")
    info = huggingface_hub.scan_cache_dir(cache)
    assert not info.warnings
    assert [(repo.repo_id, repo.nb_files) for repo in info.repos] == [(REPOSITORY, 2)]


def test_what_was_pulled_is_recorded(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    path = got(offer)
    (record,) = pulled.read()
    assert (record.repository, record.revision, record.files) == (REPOSITORY, COMMIT, offer.files)
    assert record.entry(offer.files[0]) == path
    other = offer_of(hub, {"m-Q8_0.gguf": b"GGUF", FILE: CONTENT})
    got(Offer(REPOSITORY, COMMIT, other.files, "x"))
    assert len(pulled.read()) == 1


def test_a_broken_record_is_none(cache: Path) -> None:
    assert pulled.read() == []
    path = cache.parent / "ours" / "pulled.json"
    path.parent.mkdir()
    for text in (
        "",
        "[]",
        '{"pulled": 5}',
        '{"pulled": [{}]}',
        '{"pulled": [{"cache": 5, "files": []}]}',
        "[" * 99_999,
    ):
        path.write_text(text)
        assert pulled.read() == []


def test_progress_counts_all_files_to_the_end(hub: LoopbackHub, cache: Path) -> None:
    names = [f"m-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
    offer = offer_of(hub, {names[0]: CONTENT, names[1]: CONTENT[:1000]})
    seen: list[tuple[int, int]] = []
    path = pull.download(offer, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (301_000, 301_000)
    assert seen == sorted(seen)
    assert sorted(entry.name for entry in path.parent.iterdir()) == names
    assert path.name == names[0]


def test_nothing_is_asked_for_twice(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    path = got(offer)
    before = len(hub.requests)
    assert got(offer) == path
    assert len(hub.requests) == before


def test_connections_cut_at_random_bytes(hub: LoopbackHub, cache: Path) -> None:
    draw = random.Random(1)
    hub.cuts[FILE] = [draw.choice([0, 1, 40_000, draw.randrange(100_000)]) for _ in range(12)]
    assert got(offer_of(hub)).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT)


def test_a_server_without_ranges(hub: LoopbackHub, cache: Path) -> None:
    hub.has_ranges = False
    hub.cuts[FILE] = [100_000, 200_000]
    assert got(offer_of(hub)).read_bytes() == CONTENT


def test_a_hub_that_sends_nothing_more(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(transfer, "sleep", waited.append)
    hub.cuts[FILE] = [1000] + [0] * 20
    offer = offer_of(hub)
    with pytest.raises(wire.Unreachable, match=r"broke off within file m-Q4_K_M\.gguf"):
        got(offer)
    assert waited == [1, 2, 4, 8]
    assert named_files(cache) == []
    assert blob(cache, offer, ".incomplete").read_bytes() == CONTENT[:1000]
    hub.cuts.clear()
    assert got(offer).read_bytes() == CONTENT


@pytest.mark.parametrize("at", [0, 1, 65_536, 299_999])
def test_interrupted_and_taken_up_again(hub: LoopbackHub, cache: Path, at: int) -> None:
    offer = offer_of(hub)

    def interrupt(done: int, total: int) -> None:
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull.download(offer, interrupt)
    assert named_files(cache) == []
    kept = pull.place(offer).have
    hub.sent = 0
    assert got(offer).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT) - kept


@pytest.mark.parametrize("length", [0, 1, 12_345, 299_999, 300_000])
def test_any_beginning_is_taken_up(hub: LoopbackHub, cache: Path, length: int) -> None:
    """As an earlier run leaves it, or an older huggingface_hub."""
    offer = offer_of(hub)
    begun = blob(cache, offer, ".incomplete")
    begun.parent.mkdir(parents=True)
    begun.write_bytes(CONTENT[:length])
    assert got(offer).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT) - length


def test_killed_and_taken_up_again(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    hub.cuts[FILE] = [123_456] + [0] * 99
    code = (
        "from qwen35_local.hub import pull, remote; from qwen35_local.hub.names import RepositoryName\n"
        "offer = remote.find(RepositoryName('user', 'repo'))\n"
        "pull.download(offer, lambda done, total: print(done, flush=True))"
    )
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(cache)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 123_456:
                process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert named_files(cache) == []
    hub.cuts.clear()
    hub.sent = 0
    assert got(offer).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT) - 123_456


@pytest.mark.parametrize("changed", [CONTENT[:-1] + b"x", b"y" + CONTENT[1:]], ids=["last", "first"])
def test_a_wrong_checksum_is_never_used(hub: LoopbackHub, cache: Path, changed: bytes) -> None:
    hub.content_changes[FILE] = changed
    offer = offer_of(hub)
    with pytest.raises(InputError, match=r"wrong checksum .* was removed"):
        got(offer)
    assert named_files(cache) == []
    assert list((cache / "models--user--repo" / "blobs").iterdir()) == []
    assert pulled.read() == []
    hub.content_changes.clear()
    assert got(offer).read_bytes() == CONTENT


def test_a_damaged_beginning_is_never_used(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    begun = blob(cache, offer, ".incomplete")
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"?" * 1000)
    with pytest.raises(InputError, match="wrong checksum"):
        got(offer)
    assert got(offer).read_bytes() == CONTENT


@pytest.mark.parametrize("there", [CONTENT[:-1], CONTENT[:-1] + b"?"], ids=["short", "changed"])
def test_a_bad_file_that_somebody_left_is_replaced(hub: LoopbackHub, cache: Path, there: bytes) -> None:
    offer = offer_of(hub)
    path = blob(cache, offer)
    path.parent.mkdir(parents=True)
    path.write_bytes(there)
    assert got(offer).read_bytes() == CONTENT


def test_a_good_file_that_somebody_left_is_taken(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    path = blob(cache, offer)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert got(offer).read_bytes() == CONTENT
    assert hub.sent == 0


@pytest.mark.parametrize("length", [299_999, 300_001, 5])
def test_sizes_that_lie(hub: LoopbackHub, cache: Path, length: int) -> None:
    hub.listing_changes[FILE] = {"lfs": {"size": length, "sha256": offer_of(hub).files[0].digest}}
    with pytest.raises(InputError, match=f"lists {length:,} bytes .* has 300,000"):
        got(offer_of(hub))
    assert named_files(cache) == []


def test_another_file_behind_the_same_name(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    hub.add(REPOSITORY, {FILE: bytes(len(CONTENT))})
    with pytest.raises(InputError, match=f"with checksum {offer.files[0].digest[:12]}… and sends"):
        got(offer)
    assert hub.sent < 1 << 20


def test_a_file_that_went_away(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    hub.repositories[REPOSITORY].clear()
    with pytest.raises(wire.Absent, match=f"no file {FILE} in {REPOSITORY}"):
        got(offer)


def test_space_is_looked_at_first(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = offer_of(hub)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50_000_000))
    with pytest.raises(InputError, match=r"0.3 MB are still to be written and 50.0 MB are free .*HF_HUB_CACHE"):
        got(offer)
    assert hub.sent == 0
    assert not cache.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=70_000_000))
    with pytest.raises(InputError, match=r"10.3 MB are still to be written"):
        pull.check_space(offer, converted_bytes=10_000_000)
    assert got(offer).read_bytes() == CONTENT


def test_a_disk_that_fills_up(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = offer_of(hub)
    opened = Path.open

    class Full:
        """A file with room for 100,000 bytes."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, piece: bytes) -> int:
            if self.file.tell() + len(piece) > 100_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(piece))

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def open(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        file = opened(path, mode, *rest, **named)
        return Full(file) if mode == "ab" else file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open)
        with pytest.raises(InputError, match=r"the disk is full with 0.2 MB still to come; what came is kept"):
            got(offer)
    assert named_files(cache) == []
    assert 0 < blob(cache, offer, ".incomplete").stat().st_size <= 100_000
    assert got(offer).read_bytes() == CONTENT


def test_two_at_once_do_not_mix(hub: LoopbackHub, cache: Path) -> None:
    offer = offer_of(hub)
    lock = cache / ".locks" / "models--user--repo" / f"{offer.files[0].digest}.lock"
    with wire.lock(lock), pytest.raises(InputError, match="another program is at work on this"):
        got(offer)
    assert got(offer).read_bytes() == CONTENT


def test_without_links_the_file_gets_its_name(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: str) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    offer = offer_of(hub)
    path = got(offer)
    assert not path.is_symlink()
    assert path.read_bytes() == CONTENT
    before = len(hub.requests)
    assert got(offer) == path
    assert len(hub.requests) == before


def test_another_type_of_a_later_commit_hides_nothing(hub: LoopbackHub, cache: Path) -> None:
    first = got(offer_of(hub, {FILE: DEMO}))
    hub.add(REPOSITORY, {"m-Q8_0.gguf": DEMO + b"8"})
    hub.commit = "f" * 40
    second = got(remote.find(RepositoryName("user", "repo"), "Q8_0"))
    assert (COMMIT in first.parts, hub.commit in second.parts) == (True, True)
    assert [(model.path, model.is_ours) for model in hub_cache.models()] == [(second, True), (first, True)]
