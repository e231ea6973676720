"""What a repository on a hub holds, from the hub's answer: outside input, of which only sound entries are taken."""

import re
from dataclasses import dataclass

from qwen35_local import json_file
from qwen35_local.errors import FormatError, InputError

# A file that may have its own name on any disk: no folder above, no hidden name, no letter of another meaning.
_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._+=@,()\[\] -]{0,198}[A-Za-z0-9_+=)\]-])?"
_PATH = re.compile(rf"(?:{_WORD}/){{0,8}}{_WORD}")
_MOST_BYTES = 1 << 50
_MOST_FILES = 20_000


@dataclass(frozen=True)
class RemoteFile:
    """`digest` is the SHA-256 of a large file in 64 hex digits, or git's SHA-1 of a small one in 40."""

    path: str
    n_bytes: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """A repository at one commit, the revision of all its files."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]


def parse(repository: str, answer: bytes) -> Listing:
    """Reads the hub's `GET /api/models/OWNER/NAME?blobs=true`. Files without a checksum, and names that lead elsewhere,
    are left out. Raises InputError for an answer that is no listing."""
    try:
        found = json_file.parse(answer, repository)
    except FormatError:
        found = None
    revision, siblings = (found.get("sha"), found.get("siblings")) if isinstance(found, dict) else (None, None)
    if not _is_hex(revision, 40) or not isinstance(siblings, list) or len(siblings) > _MOST_FILES:
        raise InputError(
            f"{repository}: what came is no list of files; is there a login page in the way, or HF_ENDPOINT no hub?"
        )
    files = {file.path: file for file in map(_file, siblings) if file is not None}
    return Listing(repository, str(revision), tuple(files[path] for path in sorted(files)))


def _file(entry: object) -> RemoteFile | None:
    if not isinstance(entry, dict):
        return None
    large = entry.get("lfs")
    n_bytes, digest, length = entry.get("size"), entry.get("blobId"), 40
    if isinstance(large, dict):
        n_bytes, digest, length = large.get("size", n_bytes), large.get("sha256"), 64
    path = entry.get("rfilename")
    if not isinstance(path, str) or not _PATH.fullmatch(path) or not _is_hex(digest, length):
        return None
    if type(n_bytes) is not int or not 0 <= n_bytes < _MOST_BYTES:
        return None
    return RemoteFile(path, n_bytes, str(digest))


def _is_hex(value: object, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None
