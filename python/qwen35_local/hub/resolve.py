"""From what a person typed to what it means here: a path first, then what is on the disk under that name."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from qwen35_local.errors import InputError
from qwen35_local.hub import contents, disk, ollama
from qwen35_local.hub.conversions import conversion
from qwen35_local.hub.filename import plain_type
from qwen35_local.hub.names import Name, OtherName, RepositoryName, SizeName, parse
from qwen35_local.hub.places import embedded_model
from qwen35_local.hub.stored import Stored
from qwen35_local.models.registry import SIZES

DEFAULT_TYPE = "Q4_K_M"
_MOST_NAMED = 6


@dataclass(frozen=True)
class ModelFile:
    """A GGUF ready to load; `stored` when a name was looked up."""

    path: Path
    is_embedded: bool = False
    stored: Stored | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face folder, and the GGUF in the cache that a conversion of it to `type` belongs in."""

    folder: Path
    type: str
    cached: Path
    stored: Stored | None = None
    is_type_said: bool = False


@dataclass(frozen=True)
class Absent:
    """A name that a hub may know and this disk does not; `problem`: what is here of it, and what is wrong with that."""

    name: SizeName | RepositoryName
    problem: str | None = None


Found = ModelFile | Checkpoint


def resolve(
    text: str | None,
    type: str | None = None,
    *,
    convertible: Collection[str] = (DEFAULT_TYPE,),
    as_source: bool = False,
) -> Found | Absent:
    """Nothing is the embedded model. `type` is meant of a size or repository that names none; `convertible` are those
    that a checkpoint can be converted to; `as_source`: of a name that has both, its checkpoint is meant, not a GGUF.

    Raises InputError for a path that leads to no model, for a name that means two things, and for one that means
    nothing."""
    if text is None:
        return ModelFile(embedded_model(), is_embedded=True)
    try:
        name = parse(text)
    except InputError:
        called = [model for model in disk.models() if model.is_called(text)]
        if not called:
            raise
        name = OtherName(text)
    if type is not None and isinstance(name, SizeName | RepositoryName):
        name = _typed(text, name, type)
    if isinstance(name, Path):
        return of_path(name, as_source=as_source)
    here = Path(text)
    is_here = contents.is_file(here) or contents.is_folder(here)
    if is_here and isinstance(name, SizeName):
        raise ambiguous(text, [f"{_kind(here)} of that name here (./{text})", f"the size {name.size} ({_said(name)})"])
    if is_here and isinstance(name, OtherName):
        return of_path(here, as_source=as_source)
    matching = _matching(text, name, disk.models(), convertible)
    if is_here:
        others = [model for model in matching if not _is_at(model, here)]
        if others:
            raise ambiguous(text, [f"{_kind(here)} of that name here (./{text})", *map(described, others)])
        return of_path(here, as_source=as_source)
    usable = [model for model in matching if model.problem is None]
    if usable:
        return _opened(_chosen(text, name, usable, as_source), name)
    problem = "; ".join(f"{described(model)}: {model.problem}" for model in matching) or None
    if isinstance(name, OtherName):
        raise InputError(f"{text}: {problem or _unknown(name)}")
    return Absent(name, problem)


def of_path(path: Path, *, as_source: bool = False) -> Found:
    """A GGUF; a checkpoint, by its folder or its config.json; a folder with one GGUF or the parts of one; the folder of
    a repository in a hub's cache. Raises InputError."""
    path = path.expanduser()
    if contents.is_file(path):
        return _of_file(path)
    if not contents.is_folder(path):
        what = "no such file or folder"
        if os.path.lexists(path):
            what = "not a regular file" if path.exists() else "a link to nothing"
        raise InputError(f"{path}: {what}; expected a GGUF, a checkpoint folder or a name as in 9b or OWNER/NAME")
    folder = contents.snapshot(path) or path
    models = contents.ggufs(contents.files_below(folder, depth=1))
    has_weights = contents.is_checkpoint(folder)
    if has_weights and models and not as_source:
        raise ambiguous(
            str(path),
            [f"a checkpoint ({folder / 'config.json'})", *(f"a GGUF ({model.path})" for model in models)],
        )
    if has_weights or (contents.is_file(folder / "config.json") and not models):
        return _checkpoint(folder)
    if len(models) > 1:
        raise ambiguous(str(path), [f"{model.type or 'a GGUF'} ({model.path})" for model in models])
    if not models:
        raise InputError(f"{path}: a folder without a model; expected one GGUF, or config.json and *.safetensors")
    if models[0].problem:
        raise InputError(f"{models[0].path}: {models[0].problem}; get it into the same folder")
    return ModelFile(models[0].path)


def _of_file(path: Path) -> Found:
    """A GGUF, unless it is a file that names one: a checkpoint's config.json, a manifest of Ollama's."""
    if path.name == "config.json":
        return _checkpoint(path.parent)
    model = ollama.of_manifest(path)
    if model is None:
        return ModelFile(path)
    if model.problem is not None:
        raise InputError(f"{path}: {described(model)}: {model.problem}")
    return ModelFile(model.path, stored=model)


def ambiguous(text: str, meanings: list[str]) -> InputError:
    """Each meaning with how to say it in brackets."""
    more = f"; and {len(meanings) - _MOST_NAMED} more (`qwen35 list`)" if len(meanings) > _MOST_NAMED else ""
    count = "two" if len(meanings) == 2 else str(len(meanings))
    listed = "; ".join(meanings[:_MOST_NAMED])
    return InputError(f"{text} means {count} things: {listed}{more}; say which, as in the brackets")


def _typed(text: str, name: SizeName | RepositoryName, type: str) -> SizeName | RepositoryName:
    wanted = plain_type(type) or type.upper()
    if name.type not in (None, wanted):
        raise InputError(f"{text} with --type {type}: two types for one model; leave one of them out")
    return replace(name, type=wanted)


def _checkpoint(folder: Path, type: str | None = None, stored: Stored | None = None) -> Checkpoint:
    wanted = type or DEFAULT_TYPE
    return Checkpoint(folder, wanted, conversion(folder, wanted), stored, type is not None)


def _matching(text: str, name: Name, models: list[Stored], convertible: Collection[str]) -> list[Stored]:
    """What a store itself calls so, and when none does, what is of that size or repository."""
    called = [model for model in models if model.is_called(text)]
    if any(model.problem is None for model in called):
        return called
    type = None if isinstance(name, Path | OtherName) else name.type
    return called + [
        model
        for model in models
        if model.answers_to(name)
        and model not in called
        and not (model.is_checkpoint and type is not None and type not in convertible)
    ]


def _chosen(text: str, name: Name, usable: list[Stored], as_source: bool) -> Stored:
    """The one that is meant: of checkpoint and GGUF what the command wants, of several types the default one. Raises
    InputError when that leaves two."""
    wanted = [model for model in usable if model.is_checkpoint == as_source] or usable
    usual = [model for model in wanted if model.type == DEFAULT_TYPE]
    left: list[Stored] = []
    for model in usual or wanted:
        if not any(model.is_same_file(other) for other in left):
            left.append(model)
    if len(left) > 1:
        raise ambiguous(text, [described(model) for model in left])
    return left[0]


def _opened(model: Stored, name: Name) -> Found:
    if not model.is_checkpoint:
        return ModelFile(model.path, stored=model)
    return _checkpoint(model.path, None if isinstance(name, Path | OtherName) else name.type, model)


def _is_at(model: Stored, path: Path) -> bool:
    try:
        return model.path.samefile(path)
    except OSError:
        return False


def _kind(path: Path) -> str:
    return "the folder" if contents.is_folder(path) else "the file"


def described(model: Stored) -> str:
    type = "checkpoint" if model.is_checkpoint else model.type or "GGUF"
    return f"{type} in {whose(model.store)} ({model.name})"


def whose(store: str) -> str:
    """A store in a sentence."""
    return {"ours": "our own folder", "hub cache": "the hub's cache"}.get(store, f"{store}'s folder")


def _said(name: SizeName) -> str:
    """A spelling of a size that no folder has by chance."""
    family, _, size = name.size.lower().partition("-")
    return f"{family}:{size}" + (f"-{name.type}" if name.type else "")


def _unknown(name: OtherName) -> str:
    if name.text[:1].isdigit() and name.text.lower().rstrip(":").endswith("b"):
        sizes = ", ".join(str(SizeName(size)) for size in SIZES)
        return f"no published size, and no file, folder or model of that name; sizes are {sizes}"
    return f"no such file or folder, and no model of that name in {searched()}"


def searched() -> str:
    """Where names are looked for, for a message."""
    return ", ".join(
        f"{whose(store)} ({', '.join(map(str, folders)) or 'none here'})" for store, folders in disk.places()
    )
