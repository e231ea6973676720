"""Which safetensors files of a folder make up the model: what the index lists, unless the files themselves say better.

Folders hold more than one download or tool left there: the index of shards that were merged since, a copy of the model
beside its shards, MTP tensors in a file of their own, an adapter. A file is judged by the names and the bytes in it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from qwen35_local import json_file
from qwen35_local.errors import FormatError
from qwen35_local.models.tensors import canonical_name, is_ignored, is_vision
from qwen35_local.quantize import fp8
from qwen35_local.quantize.rows import Entry
from qwen35_local.quantize.shard import read_shard

INDEX = "model.safetensors.index.json"
_NUMBERED = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")
_ADAPTER = re.compile(r"\.(lora_[A-Za-z_]+|base_layer|modules_to_save|original_module|ia3_\w+)\b")
_ADAPTER_LEFT_OUT = "{} is an adapter, which a conversion does not apply; merge it into the weights first"
_CHUNK_BYTES = 1 << 20

Shards = dict[Path, dict[str, Entry]]


def find(folder: Path, warnings: list[str]) -> list[Entry]:
    """The tensors of the model; what is left out or believed against the index is said in `warnings`.

    Raises FormatError when files are missing or damaged, or two of them hold different weights."""
    paths = sorted(path for path in folder.glob("*.safetensors") if path.name[0] != "." and path.exists())
    index = _read_index(folder / INDEX)
    if not paths and index is None:
        raise FormatError(f"{folder}: no .safetensors file here{_what_else(folder)}.")
    shards: Shards = {}
    for path in paths:
        try:
            shards[path] = read_shard(path)
        except FormatError as error:
            if index is None or path.name in index.values():
                raise
            warnings.append(f"{error} The index does not list it; left out")
    full = {path: shard for path, shard in shards.items() if shard}
    weights = {path: shard for path, shard in full.items() if not _is_adapter(path, shard, warnings)}
    if not weights and index is None:
        what = "only an adapter is here; merge it into its base model first" if full else "no file here holds a tensor"
        raise FormatError(f"{folder}: {what}.")
    main = _listed(folder, index, weights, warnings) if index is not None else _whole(folder, weights)
    held = {path: weights.pop(path) for path in main}
    for path in sorted(folder.glob("adapter_model.*")):
        if path.suffix != ".safetensors":
            warnings.append(_ADAPTER_LEFT_OUT.format(path.name))
    entries = [entry for shard in held.values() for entry in shard.values()]
    for path, shard in weights.items():
        entries += _joined(path, shard, entries, warnings, every_file_counts=index is None)
    return entries


def _what_else(folder: Path) -> str:
    pickled = [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
    pickled.sort(key=lambda path: (not path.name.startswith("pytorch_model"), path.name))
    if pickled:
        return (
            f"; {pickled[0].name} is a pickle, which is never loaded: give a revision of the repository with "
            "safetensors, or save the model again with save_pretrained(..., safe_serialization=True)"
        )
    ggufs = sorted(folder.glob("*.gguf"))
    return f"; to convert {ggufs[0].name}, name that file" if ggufs else "; download the weights too"


def _is_adapter(path: Path, shard: dict[str, Entry], warnings: list[str]) -> bool:
    wrapped = [name for name in shard if _ADAPTER.search(name)]
    if not wrapped and not path.name.startswith("adapter_"):
        return False
    if not path.name.startswith("adapter_") and any(_body(canonical_name(name)) for name in shard.keys() - wrapped):
        raise FormatError(
            f"{path}: tensor {wrapped[0][:120]} belongs to an adapter that was not merged into the weights around it; "
            "merge it first (PEFT: merge_and_unload)."
        )
    warnings.append(_ADAPTER_LEFT_OUT.format(path.name))
    return True


def _body(canonical: str) -> bool:
    return canonical.startswith(("layers.", "embed_tokens.", "norm."))


def _read_index(path: Path) -> dict[str, str] | None:
    if not path.exists():
        return None
    weight_map = json_file.read_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{path}: no weight_map.")
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or re.search(r"[/\\\0:]", name):
            raise FormatError(f"{path}: {str(name)[:80]!r} is not the name of a safetensors file in this folder.")
    return weight_map


def _listed(folder: Path, index: dict[str, str], shards: Shards, warnings: list[str]) -> list[Path]:
    """The files of the index or, where it does not hold, the files that have every weight it lists."""
    listed = {folder / name for name in index.values()}
    problem = _index_problem(folder, index, shards)
    if problem is None:
        return sorted(listed)
    wanted = {canonical for name in index if _body(canonical := canonical_name(name).removesuffix(fp8.SCALE_SUFFIX))}
    for paths in _sets(shards):
        # Files of the index alone would be a download that is not complete, or parts of two.
        if not listed.issuperset(paths) and wanted <= {canonical_name(name) for path in paths for name in shards[path]}:
            warnings.append(f"{INDEX} is stale ({problem}); {_names(paths)} holds every weight that it lists")
            return paths
    raise FormatError(f"{folder}: {problem}. Download the weights again.")


def _index_problem(folder: Path, index: dict[str, str], shards: Shards) -> str | None:
    names = sorted(set(index.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        return f"{len(missing)} of {len(names)} shards are missing, first {missing[0]}"
    held = {path: {canonical_name(name) for name in shard} for path, shard in shards.items()}
    wrong = [name for name, shard in index.items() if canonical_name(name) not in held.get(folder / shard, ())]
    if wrong:
        return (
            f"tensor {wrong[0][:120]} should be in {index[wrong[0]]} but is not; {len(wrong)} such entries: the index "
            "and the shards are of different downloads"
        )
    return None


def _sets(shards: Shards) -> list[list[Path]]:
    """Complete numbered sets, then files that stand alone."""
    numbered: dict[tuple[str, int], list[Path]] = {}
    alone = []
    for path in shards:
        found = _NUMBERED.fullmatch(path.name)
        if found:
            numbered.setdefault((found["stem"], int(found["total"])), []).append(path)
        else:
            alone.append([path])
    return [paths for (_, total), paths in numbered.items() if len(paths) == total] + alone


def _whole(folder: Path, shards: Shards) -> list[Path]:
    """Without an index: the first complete set with an embedding table. The first file where none has one."""
    sets = _sets(shards)
    for paths in sets:
        if any(canonical_name(name).startswith("embed_tokens.") for path in paths for name in shards[path]):
            return paths
    for path in shards.keys() - {path for paths in sets for path in paths}:
        total = path.name.rpartition("-of-")[2]
        found = sum(other.name.endswith(f"-of-{total}") for other in shards)
        raise FormatError(f"{folder}: {found} of {int(total[:5])} shards are here; download the others.")
    return sets[0]


def _joined(
    path: Path, shard: dict[str, Entry], held: list[Entry], warnings: list[str], *, every_file_counts: bool
) -> Iterable[Entry]:
    """What a further file adds to the model. A copy of what is held adds nothing; a different one is refused."""
    by_name = {canonical_name(entry.name): entry for entry in held}
    text = {name: entry for name, entry in shard.items() if not is_vision(name) and not is_ignored(name)}
    twice = {name: by_name[canonical_name(name)] for name in text if canonical_name(name) in by_name}
    for name, other in twice.items():
        if not _alike(shard[name], other):
            raise FormatError(
                f"{path}: tensor {name[:120]} is there twice with different values, here and in {other.path.name}; "
                "two models lie in this folder: move one of them away."
            )
    new = [entry for name, entry in shard.items() if name not in twice]
    own = [name for name in text if name not in twice]
    if not new:
        warnings.append(f"{path.name} is a copy of what {_names(_paths(twice.values()))} holds; left out")
        return []
    unexpected = [name for name in own if not canonical_name(name).startswith(("mtp.", "lm_head."))]
    if unexpected and not every_file_counts:
        warnings.append(f"{path.name} is not listed in {INDEX} and holds {unexpected[0][:120]}; left out")
        return []
    return new


def _paths(entries: Iterable[Entry]) -> list[Path]:
    return sorted({entry.path for entry in entries})


def _names(paths: list[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"


def _alike(one: Entry, other: Entry) -> bool:
    """Whether two tensors are the same, byte for byte."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.path.open("rb") as left, other.path.open("rb") as right:
        left.seek(one.offset)
        right.seek(other.offset)
        for at in range(0, one.n_bytes, _CHUNK_BYTES):
            n = min(_CHUNK_BYTES, one.n_bytes - at)
            if left.read(n) != right.read(n):
                return False
    return True
