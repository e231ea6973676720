"""What a person typed for a model, parsed and nothing else: no file, folder or hub is looked at."""

import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from qwen35_local.errors import InputError
from qwen35_local.hub.filename import plain_type, type_in
from qwen35_local.models.registry import SIZES

_LONGEST = 4096

_HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/+", re.IGNORECASE)
_SIZE = re.compile(
    r"(?:qwen-?(?P<release>[0-9]\.[0-9])[-:])?(?P<size>[0-9]+(?:\.[0-9]+)?b(?:-a[0-9]+b)?)(?:[-:](?P<type>.+))?",
    re.IGNORECASE,
)
# The hub's own rule (huggingface_hub, validate_repo_id) for each half of OWNER/NAME.
_WORD = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_PUBLISHED = {name.lower(): name for size in SIZES.values() for name in (size.name, *size.also)}


@dataclass(frozen=True)
class SizeName:
    """A published size by the name it has there, as in "Qwen3.5-9B" or "Qwen3.6-27B"; `type` None: not said."""

    size: str
    type: str | None = None

    def __str__(self) -> str:
        return self.size.lower().removeprefix("qwen3.5-") + (f":{self.type}" if self.type else "")


@dataclass(frozen=True)
class RepositoryName:
    """`owner/name` on a hub; `type` None: not said."""

    owner: str
    name: str
    type: str | None = None

    @property
    def repository(self) -> str:
        return f"{self.owner}/{self.name}"

    def __str__(self) -> str:
        return self.repository + (f":{self.type}" if self.type else "")


@dataclass(frozen=True)
class OtherName:
    """A relative path, or a name that only a program on this machine knows, as in "my-model:latest"."""

    text: str

    def __str__(self) -> str:
        return self.text


Name = Path | SizeName | RepositoryName | OtherName


def parse(text: str) -> Name:
    """A path that says so ("/…", "./…", "~/…", "C:\\…"), a size, a repository, or something else.

    Sizes: "9b", "35b-a3b", "Qwen3.5-9B", "qwen3.5:9b", "qwen3.5:9b-q4_K_M", "9b:Q4_K_M", in any case. Repositories:
    "user/repo", "user/repo:Q4_K_M", the same behind "hf.co/" or "https://huggingface.co/", and the addresses of a
    repository's pages and files there. Raises InputError."""
    if not text or len(text) > _LONGEST or any(ord(character) < 32 for character in text):
        raise InputError(f"{text[:80]!r} names no model; expected a size as in 9b, OWNER/NAME, a GGUF or a folder")
    hub = _HUB.match(text)
    if hub:
        return _behind_hub(text, text[hub.end() :])
    if text.startswith(("/", "./", "../", "~", "\\", ".\\")) or text in (".", "..") or PureWindowsPath(text).drive:
        return Path(text)
    return _size(text) or _repository(text) or OtherName(text)


def size_named(text: str) -> str | None:
    """The published size that "9b", "qwen3.5-9b" or a repository's name without its owner, "Qwen_Qwen3.5-9B-GGUF",
    stands for; None for a fine-tune and for anything else. "35b" is 35b-a3b: there is one size of so many."""
    word = re.sub(r"[-_.]gguf$", "", text.lower()).removeprefix("qwen_")
    found = _SIZE.fullmatch(word)
    if found is None or found["type"]:
        return None
    name = f"qwen{found['release'] or '3.5'}-{found['size']}"
    longer = [published for key, published in _PUBLISHED.items() if key.startswith(f"{name}-a")]
    return _PUBLISHED.get(name) or (longer[0] if longer else None)


def _size(text: str) -> SizeName | None:
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    size = size_named(text[: found.start("type") - 1] if found["type"] else text)
    type = plain_type(found["type"]) if found["type"] else None
    return None if size is None or (found["type"] and type is None) else SizeName(size, type)


def _repository(text: str) -> RepositoryName | None:
    """Of OWNER/NAME and OWNER/NAME:TYPE, "latest" being no type. A file name is none."""
    path, _, tag = text.partition(":")
    owner, _, name = path.partition("/")
    if not (_WORD.fullmatch(owner) and _WORD.fullmatch(name)) or name.lower().endswith(".gguf"):
        return None
    if ":" not in text or tag.lower() == "latest":
        return RepositoryName(owner, name)
    type = plain_type(tag)
    return RepositoryName(owner, name, type) if type else None


def _behind_hub(text: str, rest: str) -> RepositoryName:
    """What follows the hub's address. Raises InputError."""
    path = rest.partition("?")[0].partition("#")[0].rstrip("/")
    words = path.split("/")
    page, file = (words[2], words[-1]) if len(words) > 2 else ("", "")
    found = _repository("/".join(words[:2]))
    if found is None or page not in ("", "tree", "blob", "resolve", "raw"):
        raise InputError(f"{text}: expected hf.co/OWNER/NAME or hf.co/OWNER/NAME:TYPE, as in hf.co/Qwen/Qwen3.5-9B")
    if page in ("blob", "resolve") and file.lower().endswith(".gguf"):
        type = type_in(file)
        if type is None:
            raise InputError(f"{text}: the type of {file} cannot be read off its name; give {found}:TYPE")
        return RepositoryName(found.owner, found.name, type)
    return found
