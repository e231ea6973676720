"""A download into the cache folder of huggingface_hub: resumed at any byte, named when its checksum is right."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from qwen35_local.errors import InputError
from qwen35_local.hub import home, pulled, wire
from qwen35_local.hub.listing import RemoteFile
from qwen35_local.hub.offer import Offer
from qwen35_local.hub.pulled import Pulled
from qwen35_local.hub.transfer import extend
from qwen35_local.partial_file import write_whole
from qwen35_local.progress import Progress

_SPARE_BYTES = 64 << 20  # left free on the disk
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where an offer goes: `have` bytes of it are there, complete or begun."""

    record: Pulled
    have: int

    @property
    def cache(self) -> Path:
        return self.record.cache


def place(offer: Offer) -> Place:
    """Looks at the cache folder and asks nobody."""
    record = Pulled(wire.cache_folder(), offer.repository, offer.revision, offer.files)
    return Place(record, sum(min(_present(record, file), file.n_bytes) for file in offer.files))


def download(offer: Offer, progress: Progress) -> Path:
    """The file to open, or the folder of a checkpoint, once every file is there with its checksum.

    The layout is huggingface_hub's: blobs/DIGEST, links in snapshots/COMMIT, refs/main; what is begun is
    blobs/DIGEST.incomplete. `progress` is called with the bytes that are there and those of all files. However this
    ends, the next call goes on with what has come. Raises wire.Absent, wire.Unreachable, InputError, OSError."""
    record = place(offer).record
    check_space(offer)
    done = 0
    for file in offer.files:
        before = done

        def advance(n_bytes: int, before: int = before) -> None:
            progress(before + n_bytes, offer.n_bytes)

        try:
            with wire.lock(record.cache / ".locks" / record.repository_folder.name / f"{file.digest}.lock"):
                is_new = _fetch(record, file, advance)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"{record.cache}: the disk is full with {_size(offer.n_bytes - place(offer).have)} still to come; what "
                "came is kept: make room, and the same command goes on there"
            ) from None
        done += file.n_bytes
        if is_new:
            with wire.lock(home() / ".pulled.lock"):
                pulled.add(replace(record, files=(file,)))
    for file in offer.files:
        _link(record, file)
    main = record.repository_folder / "refs" / "main"
    main.parent.mkdir(parents=True, exist_ok=True)
    write_whole(main, [offer.revision.encode()], mode=0o666)
    return record.snapshot if offer.is_checkpoint else record.entry(offer.files[0])


def check_space(offer: Offer, converted_bytes: int = 0) -> None:
    """Raises InputError when the cache folder's disk cannot hold what is still to come, or our own folder's what it is
    then converted to."""
    where = place(offer)
    needed = offer.n_bytes - where.have
    cache, ours = _existing(where.cache), _existing(home())
    if converted_bytes and cache.stat().st_dev == ours.stat().st_dev:
        needed, converted_bytes = needed + converted_bytes, 0
    for n_bytes, folder, variable in ((needed, cache, "HF_HUB_CACHE"), (converted_bytes, ours, "QWEN35_HOME")):
        free = shutil.disk_usage(folder).free
        if n_bytes and n_bytes + _SPARE_BYTES > free:
            raise InputError(
                f"{_size(n_bytes)} are still to be written and {_size(free)} are free on the disk of {folder}; make "
                f"room, or set {variable} to a folder on another disk"
            )


def _fetch(record: Pulled, file: RemoteFile, advance: Callable[[int], None]) -> bool:
    """Leaves `file` complete, as a blob or under its name; False when another program had put it there. `advance` gets
    the bytes that are there."""
    blob = record.blob(file)
    for path in (record.entry(file), blob):
        if path.is_file() and _is_sound(record, path, file, advance):
            advance(file.n_bytes)
            return False
        path.unlink(missing_ok=True)
    partial = blob.with_name(f"{blob.name}.incomplete")
    partial.parent.mkdir(parents=True, exist_ok=True)
    if partial.is_file() and partial.stat().st_size > file.n_bytes:
        partial.unlink()
    digest = _hasher(file)
    have = _hash(partial, digest, advance) if partial.is_file() else 0

    def arrived(piece: bytes) -> None:
        nonlocal have
        digest.update(piece)
        have += len(piece)
        advance(have)

    partial.touch()
    extend(partial, record.repository, record.revision, file, file.n_bytes, arrived)
    if digest.hexdigest() != file.digest:
        partial.unlink()
        raise InputError(
            f"{file.path} of {record.repository} came with the wrong checksum ({digest.hexdigest()[:12]}…; "
            f"{wire.host()} lists {file.digest[:12]}…) and was removed; pull again, or take another type"
        )
    with partial.open("r+b") as written:
        os.fsync(written.fileno())
    partial.replace(blob)
    return True


def _is_sound(record: Pulled, path: Path, file: RemoteFile, advance: Callable[[int], None]) -> bool:
    """Whether a file that lies there is the listed one: by the record of what was checked, or by its checksum."""
    if path.stat().st_size != file.n_bytes:
        return False
    mine = (known for known in pulled.read() if known.repository_folder == record.repository_folder)
    if any(file.digest == other.digest for known in mine for other in known.files):
        return True
    digest = _hasher(file)
    _hash(path, digest, advance)
    return digest.hexdigest() == file.digest


def _hasher(file: RemoteFile) -> "hashlib._Hash":
    """SHA-256, or what git names a small file by: SHA-1 of a header with its length and the content."""
    if len(file.digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.n_bytes, usedforsecurity=False)


def _hash(path: Path, digest: "hashlib._Hash", advance: Callable[[int], None]) -> int:
    """Of a whole file; returns its bytes."""
    n_bytes = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            n_bytes += len(block)
            advance(n_bytes)
    return n_bytes


def _link(record: Pulled, file: RemoteFile) -> None:
    """Gives the blob its name; where links are not to be had, by moving it there."""
    entry, blob = record.entry(file), record.blob(file)
    if entry.is_file():
        return
    entry.unlink(missing_ok=True)
    entry.parent.mkdir(parents=True, exist_ok=True)
    try:
        entry.symlink_to(os.path.relpath(blob, entry.parent))
    except OSError:
        blob.replace(entry)


def _present(record: Pulled, file: RemoteFile) -> int:
    """Bytes of `file` that are there, complete or begun."""
    blob = record.blob(file)
    for path in (record.entry(file), blob, blob.with_name(f"{blob.name}.incomplete")):
        if path.is_file():
            return path.stat().st_size
    return 0


def _existing(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"
