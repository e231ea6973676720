"""What this program has downloaded into the hub's cache folder, which others use too: `pulled.json` in `home()`."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qwen35_local import json_file
from qwen35_local.hub import home
from qwen35_local.hub.listing import RemoteFile

_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Pulled:
    """Files of one commit of a repository, whose checksums were right, in the cache folder `cache`."""

    cache: Path
    repository: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def repository_folder(self) -> Path:
        return self.cache / f"models--{self.repository.replace('/', '--')}"

    @property
    def snapshot(self) -> Path:
        """The folder in which the files have their names."""
        return self.repository_folder / "snapshots" / self.revision

    def entry(self, file: RemoteFile) -> Path:
        return self.snapshot / file.path

    def blob(self, file: RemoteFile) -> Path:
        """Where the bytes are; entries are links to there, on systems that have them."""
        return self.repository_folder / "blobs" / file.digest


def read() -> list[Pulled]:
    """Everything recorded; nothing where there is no record or it cannot be read."""
    try:
        found: Any = json_file.read_object(_path(), _MOST_BYTES)
        return [
            Pulled(
                Path(entry["cache"]),
                str(entry["repository"]),
                str(entry["revision"]),
                tuple(RemoteFile(str(f["path"]), int(f["n_bytes"]), str(f["digest"])) for f in entry["files"]),
            )
            for entry in found["pulled"]
        ]
    except (ValueError, TypeError, KeyError):
        return []


def add(new: Pulled) -> None:
    """Files of the same commit that were recorded before stay recorded."""
    kept = read()
    for old in kept:
        if (old.cache, old.repository, old.revision) == (new.cache, new.repository, new.revision):
            files = {file.path: file for file in (*old.files, *new.files)}
            kept.remove(old)
            new = Pulled(new.cache, new.repository, new.revision, tuple(files.values()))
            break
    write([*kept, new])


def entries() -> set[Path]:
    """The names of all files that were downloaded, whether or not they are still there."""
    return {record.entry(file).absolute() for record in read() for file in record.files}


def forget(gone: set[Path]) -> None:
    """Takes files out of the record by their names, as `entries` gives them. Raises OSError."""
    left = [
        replace(record, files=tuple(file for file in record.files if record.entry(file).absolute() not in gone))
        for record in read()
    ]
    write([record for record in left if record.files])


def write(records: list[Pulled]) -> None:
    """In place of all that was recorded, whole or not at all. Raises OSError."""
    entries = [{**asdict(record), "cache": str(record.cache)} for record in records]
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps({"pulled": entries}, indent=1))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _path() -> Path:
    return home() / "pulled.json"
