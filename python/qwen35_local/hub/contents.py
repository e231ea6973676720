"""What models a folder holds: GGUFs with the parts of one counted as one, a checkpoint, or a revision in a cache.

Folders of other programs are outside input: what cannot be read is not there, links are followed but never in a circle,
and no more than a bounded number of entries is looked at.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qwen35_local import bounded_file, json_file
from qwen35_local.errors import FormatError
from qwen35_local.hub.filename import Part, is_model, part, type_in

INDEX = "model.safetensors.index.json"
_MOST_ENTRIES = 10_000
_LARGEST_JSON_BYTES = 16 << 20


@dataclass(frozen=True)
class Gguf:
    """A model in one file, or in the parts that were found of one; `path` is what to open. `problem` says in words
    which parts are missing."""

    path: Path
    files: tuple[Path, ...]
    type: str | None
    problem: str | None = None


def entries(folder: Path) -> list[Path]:
    """Sorted; none where the folder cannot be read."""
    try:
        return sorted(islice(folder.iterdir(), _MOST_ENTRIES))
    except OSError:
        return []


def is_file(path: Path) -> bool:
    """False as well for what cannot be looked at: no permission, a circle of links, a name that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """As `is_file`."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def files_below(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Files of the folder and of `depth` levels of folders below it."""
    for path in entries(folder):
        if is_file(path):
            yield path
        elif depth and is_folder(path):
            yield from files_below(path, depth - 1)


def total_bytes(files: Iterable[Path]) -> int:
    """What can be weighed of them."""
    total = 0
    for path in files:
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def ggufs(files: Iterable[Path]) -> list[Gguf]:
    """The models among files, in the order of their first files. Image encoders and adapters are none."""
    whole: list[Gguf] = []
    splits: dict[tuple[Path, str, int], dict[int, Path]] = {}
    for path in files:
        if not is_model(path.name) or _architecture(path) == "clip":
            continue
        piece = part(path.name)
        if piece is None:
            whole.append(Gguf(path, (path,), type_in(path.name)))
        else:
            splits.setdefault((path.parent, piece.stem, piece.count), {})[piece.number] = path
    joined = [_join(Part(stem, 1, count), found) for (_, stem, count), found in splits.items()]
    return sorted(whole + joined, key=lambda model: model.path)


def _join(first: Part, found: dict[int, Path]) -> Gguf:
    missing = [number for number in range(1, first.count + 1) if number not in found]
    files = tuple(found[number] for number in sorted(found))
    problem = None
    if missing:
        name = f"{first.stem}-{missing[0]:05d}-of-{first.count:05d}.gguf"
        problem = f"parts of it are missing ({len(missing)} of {first.count}), first {name}"
    return Gguf(files[0], files, type_in(first.stem), problem)


def _architecture(path: Path) -> str | None:
    """`general.architecture`, which writers put first (GGUF specification, "File structure"); None if it is not."""
    if not is_file(path):
        return None
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return None
    key = b"general.architecture"
    if head[:4] != b"GGUF" or head[32 : 32 + len(key)] != key:
        return None
    at = 32 + len(key) + 4  # behind the value's kind
    length = int.from_bytes(head[at : at + 8], "little")
    return head[at + 8 : at + 8 + length].decode("utf-8", "replace") if length <= 64 else None


def is_of_family(path: Path) -> bool:
    """Whether a GGUF, or a checkpoint by its config.json, says that it is of this family. Not saying is no."""
    if is_folder(path):
        kind = str(read_json(path / "config.json").get("model_type"))
        return kind.startswith("qwen3_5")
    return _architecture(path) in ("qwen35", "qwen35moe")


def is_checkpoint(folder: Path) -> bool:
    """A configuration and weights beside it."""
    return is_file(folder / "config.json") and any(p.name.endswith(".safetensors") for p in entries(folder))


def missing_shards(folder: Path) -> list[str]:
    """Files that the index of a checkpoint names and that are not there."""
    names = read_json(folder / INDEX).get("weight_map")
    listed = {name for name in names.values() if isinstance(name, str)} if isinstance(names, dict) else set()
    return sorted(name for name in listed if not is_file(folder / Path(name).name))


def read_json(path: Path) -> dict[str, object]:
    """The object in a small file; an empty one for anything else."""
    try:
        return json_file.read_object(path, _LARGEST_JSON_BYTES)
    except FormatError:
        return {}


def first_line(path: Path) -> str:
    """Of a small text file, without spaces around it; empty when there is none."""
    try:
        text = bounded_file.read(path, _LARGEST_JSON_BYTES)
    except (FormatError, OSError):
        return ""
    return text.decode("utf-8", "replace").strip().partition("\n")[0].strip()


def snapshot(folder: Path) -> Path | None:
    """The files of `models--OWNER--NAME` in the revision that `refs/main` names, or in the only one there is."""
    revisions = snapshots(folder)
    is_named = bool(revisions) and revisions[0].name == first_line(folder / "refs" / "main")
    return revisions[0] if is_named or len(revisions) == 1 else None


def snapshots(folder: Path) -> list[Path]:
    """The files of `models--OWNER--NAME` in every revision, of that which `refs/main` names first."""
    named = first_line(folder / "refs" / "main")
    revisions = [path for path in entries(folder / "snapshots") if is_folder(path)]
    return sorted(revisions, key=lambda path: (path.name != named, path.name))
