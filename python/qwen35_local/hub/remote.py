"""From the name of a size or a repository to what a hub offers for it, and the header of that file alone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from qwen35_local.errors import FormatError, InputError
from qwen35_local.hub import contents, disk, home, wire
from qwen35_local.hub.listing import Listing, RemoteFile, parse
from qwen35_local.hub.names import RepositoryName, SizeName, size_named
from qwen35_local.hub.offer import Offer, checkpoint, choose, types
from qwen35_local.hub.transfer import extend
from qwen35_local.models.sources import sources

_MOST_LISTING = 32 << 20
_MOST_CONFIG = 1 << 20
_FIRST_HEADER = 4 << 20
_LATER_HEADER = 256 << 10
_MOST_HEADER = 256 << 20
_KEPT_HEADERS = 32
_MOST_NAMED = 6


def find(name: SizeName | RepositoryName, type: str | None = None, *, as_checkpoint: bool = False) -> Offer:
    """The GGUF of `type` (None: of the name's, or the preferred one) at the hub's present commit; the checkpoint where
    it is asked for, or where a repository has nothing else. Raises wire.Absent, wire.Unreachable, InputError."""
    if wire.is_offline():
        raise wire.Unreachable(_offline())
    wanted = (type or name.type or "").upper() or None
    if isinstance(name, RepositoryName):
        return _in_repository(name, wanted, as_checkpoint)
    source = sources()[name.size]
    if as_checkpoint:
        return _in_repository(_repository(source.checkpoint), None, True)
    seen: list[Listing] = []
    for repository in source.gguf:
        try:
            listing = _list(repository)
        except wire.Absent:
            continue
        offer = choose(listing, wanted)
        if offer is not None:
            return offer
        seen.append(listing)
    if not seen:
        raise wire.Absent(f"{wire.host()} has none of {', '.join(source.gguf)}; `qwen35 pull {name} --convert` may do")
    held = "; ".join(f"{listing.repository} has {_spelled(listing)}" for listing in seen)
    raise InputError(f"{name}: nobody has it as {wanted or 'a type that runs here'}: {held}; choose with --type")


def header(offer: Offer) -> Path:
    """A GGUF, or the first part of one, that ends behind its tensor directory: all that `plan` and `info` look at. Of a
    checkpoint, a folder with its config.json. Kept for the next time. Raises what `find` raises, FormatError."""
    folder = home() / "headers" / offer.files[0].digest
    wanted = offer.files[:1] if offer.is_checkpoint else offer.files
    targets = [folder / Path(file.path).name for file in wanted]
    missing = [pair for pair in zip(wanted, targets, strict=True) if not pair[1].is_file()]
    try:
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            _forget_headers(folder.parent)
        for file, target in missing:
            (_fetch_config if offer.is_checkpoint else _fetch_header)(offer, file, target)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: {error.strerror or error}; headers are kept there: make it a folder that can be "
            "written, with room, or set QWEN35_HOME to another"
        ) from None
    return folder if offer.is_checkpoint else targets[0]


def _offline() -> str:
    """With what can be had without a network."""
    here = [model.name for model in disk.models() if model.problem is None and contents.is_of_family(model.path)]
    listed = ", ".join(here[:_MOST_NAMED]) + (", …" if len(here) > _MOST_NAMED else "")
    return (
        f"HF_HUB_OFFLINE is set, so {wire.host()} is not asked; on this disk {f'are {listed}' if here else 'is none'}"
    )


def _in_repository(name: RepositoryName, type: str | None, as_checkpoint: bool) -> Offer:
    try:
        listing = _list(name.repository)
    except wire.Absent as error:
        raise wire.Absent(f"{error}{_close_name(name)}") from None
    offer = None if as_checkpoint else choose(listing, type)
    if offer is not None:
        return offer
    offer = None if types(listing) and not as_checkpoint else checkpoint(listing)
    if offer is not None:
        return offer
    if as_checkpoint:
        raise InputError(
            f"{name.repository} has no checkpoint (config.json and *.safetensors); it has {_spelled(listing)}"
        )
    raise InputError(f"{name.repository} has nothing as {type or 'a type that runs here'}; it has {_spelled(listing)}")


def _list(repository: str) -> Listing:
    answer = wire.read(wire.listing_url(repository), f"repository {repository}", _MOST_LISTING)
    return parse(repository, answer)


def _spelled(listing: Listing) -> str:
    return ", ".join(types(listing)) or "no model as GGUF"


def _close_name(name: RepositoryName) -> str:
    """A repository that is known to be there, when the name is near it or names a size."""
    known = {repository: size for size, source in sources().items() for repository in (source.checkpoint, *source.gguf)}
    size = size_named(name.name)
    near = get_close_matches(name.repository, known, 1, 0.8)
    size = size or (known[near[0]] if near else None)
    return f"; {SizeName(size)} is at {', '.join(sources()[size].gguf)}: `qwen35 pull {SizeName(size)}`" if size else ""


def _repository(text: str) -> RepositoryName:
    owner, _, name = text.partition("/")
    return RepositoryName(owner, name)


def _fetch_config(offer: Offer, file: RemoteFile, target: Path) -> None:
    if file.n_bytes > _MOST_CONFIG:
        raise FormatError(f"{offer.repository}: config.json of {file.n_bytes:,} bytes; expected a few thousand")
    with _written_whole(target) as partial:
        extend(partial, offer.repository, offer.revision, file, file.n_bytes)


def _fetch_header(offer: Offer, file: RemoteFile, target: Path) -> None:
    """Asks for twice as much until the tensor directory is there. The vocabulary, which makes headers long, is in the
    first part. What else is wrong with a file is for the one who opens it to say."""
    most = min(file.n_bytes, _MOST_HEADER)
    wanted = min(_FIRST_HEADER if file == offer.files[0] else _LATER_HEADER, most)
    with _written_whole(target) as partial:
        while True:
            extend(partial, offer.repository, offer.revision, file, wanted)
            with partial.open("rb") as begun:
                if begun.read(4) != b"GGUF":
                    raise FormatError(f"{offer.repository}: {file.path} is no GGUF (it does not begin with GGUF)")
            if wanted == most or not _is_cut_off(partial):
                return
            wanted = min(2 * wanted, most)


@contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """A path to write to; what is there becomes `target` when nothing goes wrong."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _is_cut_off(path: Path) -> bool:
    """Whether bytes are missing before the end of the tensor directory: the reader then says how many are left, so that
    one byte less changes its words."""
    problem = _problem(path)
    if problem is None:
        return False
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.truncate()
        shorter = _problem(path)
        file.write(last)
    return problem != shorter


def _problem(path: Path) -> str | None:
    """What keeps the reader from the tensor directory."""
    from qwen35_local import _core

    try:
        _core.GgufFile(path, header=True)
    except FormatError as error:
        return str(error)
    return None


def _forget_headers(folder: Path) -> None:
    """All but the newest."""
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in kept[_KEPT_HEADERS:]:
        shutil.rmtree(old, ignore_errors=True)
