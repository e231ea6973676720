"""Snapshots in a folder, so that a restart reads nothing again.

`state.json` lists snapshots and the parts each is made of; a part is a file of raw bytes behind a header of 56 bytes:

    8  magic "qwen35\\0p"       4  version      4  kind, ASCII
    8  length of the content    32  SHA-256 of the 16 bytes before it and the content

Its name is that digest, so what two snapshots share is there once, and saving again writes what is new. Everything is
written whole or not at all: parts first, `state.json` last, then what it does not name is removed. Nothing is trusted
when it comes back: whatever is damaged, or made by another model or program, is refused with the reason.
"""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core, bounded_file, json_file
from qwen35_local.engine.cache import Entry, PrefixCache
from qwen35_local.errors import FormatError, InputError
from qwen35_local.fields import OBJECTS, TEXT, Fields, Kind, integer, list_of
from qwen35_local.models.kv import KvFormat
from qwen35_local.partial_file import remove_stale, write_whole

VERSION = 2
STATE = "state.json"

_MAGIC = b"qwen35\0p"
_HEADER = Struct("<8sI4sQ32s")
_KINDS = {"tokens": b"TOKN", "state": b"DMEM", "page": b"PAGE", "logits": b"LGTS"}
SUFFIX = ".part"
_PART_LIMIT_BYTES = 1 << 30
_MOST_TOKENS = 1 << 30
_JSON_LIMIT_BYTES = 256 << 20

_PART: Kind[str] = Kind(
    "the 64 digits that name a part", lambda v: type(v) is str and re.fullmatch("[0-9a-f]{64}", v) is not None
)
# A block of rows that are not tokens: first row, rows, positions they take, the last row's position, digest. The rope
# delta follows from them.
_COUNT = integer(0, (1 << 31) - 1)


def _are_counts(values: Any) -> bool:
    return type(values) is list and len(values) == 3 and all(map(_COUNT.fits, values))


_RUN: Kind[list[Any]] = Kind(
    "three counts, a position of three parts and the 64 digits of a digest",
    lambda v: type(v) is list and len(v) == 5 and _are_counts(v[:3]) and _are_counts(v[3]) and _PART.fits(v[4]),
)

Bytes = NDArray[np.uint8]


def content(file: _core.GgufFile) -> bytes:
    """Digest of what tells a file, and every part of it, from another: sizes, times of change, headers, and how each
    tensor begins. Raises FormatError when it was changed since it was opened."""
    return sha256(file.fingerprint()).digest()


def identity(file_content: bytes, model: _core.Model) -> str:
    """Names a model, as far as its memory depends on it: the content of the file that it was loaded from, how it was
    loaded (rope, context, drafts), and the program's version."""
    made_by = f"{re.split('[-:]', model.device)[0]} {model.state_layout} {model.drafts} {_core.__version__}\n"
    digest = sha256(made_by.encode())
    digest.update(json.dumps(model.config, sort_keys=True).encode())
    digest.update(file_content)
    return digest.hexdigest()


def save(folder: Path, snapshots: Iterable[tuple[Entry, _core.Snapshot]], model: str, kv: KvFormat) -> None:
    """Makes the folder hold these snapshots and no others. `model`: its identity. Raises OSError; what the folder held
    is then still there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_stale(folder)
    known: dict[int, str] = {}
    items = [write_snapshot(folder, entry, snapshot, known) for entry, snapshot in snapshots]
    content = {"format": "qwen35-state", "version": VERSION, "model": model, "kv": kv, "snapshots": items}
    write_json(folder / STATE, content)
    named = {name for item in items for name in parts(item)}
    for part in folder.glob(f"*{SUFFIX}"):
        if part.stem not in named:
            part.unlink(missing_ok=True)


def write_snapshot(folder: Path, entry: Entry, snapshot: _core.Snapshot, known: dict[int, str]) -> dict[str, Any]:
    """Writes the parts of a snapshot that are not there yet; returns their names as `state.json` lists them. `known`:
    names by the ids of pages that were written and are pinned since."""
    for page in snapshot.pages:
        if page.id not in known:
            known[page.id] = _write(folder, "page", page.data())
    return {
        "label": entry.label,
        "tokens": _write(folder, "tokens", snapshot.tokens),
        "inputs": [[*counts, last, digest.hex()] for *counts, last, digest in snapshot.inputs],
        "committed": snapshot.committed,
        "state": _write(folder, "state", snapshot.state()),
        "logits": None if entry.logits is None else _write(folder, "logits", entry.logits),
        "pages": [known[page.id] for page in snapshot.pages],
    }


def load(folder: Path, cache: PrefixCache, model: _core.Model, name: str, kv: KvFormat) -> int:
    """Puts the snapshots of a folder into the cache; returns how many. Raises FormatError saying why they cannot be
    used, OSError; the cache is then as it was."""
    where = folder / STATE
    content = read_json(where)
    if not isinstance(content, dict) or content.get("format") != "qwen35-state":
        raise FormatError(f"{where}: not a saved state")
    fields = Fields(content, f"{where}: ")
    fields.need("version", integer(VERSION, VERSION))
    if fields.need("model", TEXT) != name:
        raise FormatError(f"{where}: made by another model, context length, --draft or version of this program")
    if (kept := fields.need("kv", TEXT)) != kv:
        raise FormatError(f"{where}: keys and values are kept as {kept!r}, and here as {kv!r}")
    items = [
        _item(Fields(item, f"{where}: snapshots[{n}].")) for n, item in enumerate(fields.need("snapshots", OBJECTS))
    ]
    pages: dict[str, _core.Page | Bytes] = {}
    found = [read_snapshot(folder, item, model, kv, pages) for item in items]
    for snapshot, label, logits in found:
        cache.insert(snapshot, label, logits)
    return len(found)


def read_snapshot(
    folder: Path, item: Mapping[str, Any], model: _core.Model, kv: KvFormat, pages: "dict[str, _core.Page | Bytes]"
) -> tuple[_core.Snapshot, str, NDArray[np.float32] | None]:
    """A snapshot, its label and logits. `pages`: those of earlier snapshots, to be shared. Raises FormatError,
    OSError."""
    names = item["pages"]
    for name in names:
        if name not in pages:
            pages[name] = _read(folder, name, "page")
    logits = None if item["logits"] is None else _values(folder, item["logits"], "logits", np.dtype(np.float32))
    if logits is not None and len(logits) != model.n_vocab:
        raise FormatError(f"{folder}: {len(logits)} logits, and the model has {model.n_vocab}")
    tokens = _values(folder, item["tokens"], "tokens", np.dtype(np.int32))
    state = _read(folder, item["state"], "state")
    try:
        snapshot = _core.Snapshot.assemble(
            model,
            kv=kv,
            tokens=tokens,
            inputs=[(*counts, tuple(last), bytes.fromhex(digest)) for *counts, last, digest in item["inputs"]],
            committed=item["committed"],
            pages=[pages[name] for name in names],
            state=state,
        )
    except InputError as error:
        raise FormatError(f"{folder}: {error}") from None
    pages |= dict(zip(names, snapshot.pages, strict=True))
    return snapshot, item["label"], logits


def _item(fields: Fields) -> dict[str, Any]:
    """A snapshot as `write_snapshot` describes it. Raises FormatError."""
    return {
        "label": fields.need("label", TEXT),
        "tokens": fields.need("tokens", _PART),
        "inputs": fields.need("inputs", list_of(_RUN)),
        "committed": fields.need("committed", integer(0, _MOST_TOKENS)),
        "state": fields.need("state", _PART),
        "logits": fields.find("logits", _PART),
        "pages": fields.need("pages", list_of(_PART)),
    }


def parts(item: Mapping[str, Any]) -> list[str]:
    """The names of the parts of a snapshot."""
    return [name for name in (item["tokens"], item["state"], item["logits"], *item["pages"]) if name]


def _write(folder: Path, kind: str, values: NDArray[Any]) -> str:
    """Writes a part unless it is there; returns its name."""
    content = np.ascontiguousarray(values).view(np.uint8).data
    head = _HEADER.pack(_MAGIC, VERSION, _KINDS[kind], len(content), bytes(32))
    digest = _digest(head, content)
    path = folder / f"{digest.hex()}{SUFFIX}"
    if not path.exists():
        write_whole(path, [head[:-32] + digest, content])
    return digest.hex()


def _read(folder: Path, name: str, kind: str) -> Bytes:
    """The content of a part. Raises FormatError when it is missing, damaged or of another kind."""
    path = folder / f"{name}{SUFFIX}"
    try:
        data = np.frombuffer(bounded_file.read(path, _PART_LIMIT_BYTES), np.uint8)
    except FileNotFoundError:
        raise FormatError(f"{path}: missing") from None
    if len(data) < _HEADER.size:
        raise FormatError(f"{path}: cut short, at {len(data)} bytes")
    head, content = data[: _HEADER.size].tobytes(), data[_HEADER.size :]
    magic, version, found, length, digest = _HEADER.unpack(head)
    if magic != _MAGIC or version != VERSION or found != _KINDS[kind]:
        raise FormatError(f"{path}: not a part of kind {kind}, version {VERSION}")
    if length != len(content):
        raise FormatError(f"{path}: {len(content)} bytes where {length} are announced")
    if digest != _digest(head, content.data) or digest.hex() != name:
        raise FormatError(f"{path}: damaged; its checksum does not fit")
    return content


def _values(folder: Path, name: str, kind: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    content = _read(folder, name, kind)
    if len(content) % dtype.itemsize:
        raise FormatError(f"{folder / name}{SUFFIX}: {len(content)} bytes are no {kind}")
    return content.copy().view(dtype.newbyteorder("<")).astype(dtype)


def _digest(head: bytes, content: memoryview) -> bytes:
    digest = sha256(head[8:-32])
    digest.update(content)
    return digest.digest()


def write_json(path: Path, content: Any) -> None:
    """A JSON file with its own checksum. Raises OSError."""
    text = encode_json(content)
    digest = sha256(text).hexdigest()
    write_whole(path, [f'{{"sha256": "{digest}", "content":\n'.encode(), text, b"\n}\n"])


def encode_json(content: Any) -> bytes:
    """JSON as UTF-8; lone surrogates, which a model can write in a call's arguments, as escapes."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


def read_json(path: Path) -> Any:
    """What `write_json` wrote. Raises FormatError when it is damaged, OSError."""
    data = bounded_file.read(path, _JSON_LIMIT_BYTES)
    head, _, rest = data.partition(b"\n")
    text = rest.removesuffix(b"\n}\n")
    if head != f'{{"sha256": "{sha256(text).hexdigest()}", "content":'.encode() or text == rest:
        raise FormatError(f"{path}: damaged; its checksum does not fit")
    return json_file.parse(text, str(path), lone_surrogates=True)
