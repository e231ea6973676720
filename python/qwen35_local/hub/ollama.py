"""Models that Ollama has pulled, read in place: a manifest names a blob, and the blob is a GGUF.

`manifests/<registry>/<namespace>/<model>/<tag>` is JSON; its layer of the media type below has a digest
"sha256:<hex>", which is the blob `blobs/sha256-<hex>` (ollama, docs and `server/modelpath.go`). Newer versions keep
further manifests, which may be links to blobs, beside `manifests` (ollama pull request 15735).
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from qwen35_local.errors import InputError
from qwen35_local.hub.contents import entries, is_file, is_folder, read_json
from qwen35_local.hub.filename import plain_type
from qwen35_local.hub.names import Name, OtherName, RepositoryName, SizeName, parse, size_named
from qwen35_local.hub.places import user_folder
from qwen35_local.hub.stored import Stored

STORE = "Ollama"
_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_SYSTEM_FOLDERS = ("/usr/share/ollama/.ollama/models", "/var/lib/ollama/models", "/var/lib/ollama")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_OWN_REGISTRIES = ("registry.ollama.ai", "ollama.com")
_HUBS = ("hf.co", "huggingface.co")


def folders() -> list[Path]:
    """OLLAMA_MODELS, the person's own, and those of system services, where they exist."""
    chosen, own = os.environ.get("OLLAMA_MODELS"), user_folder()
    found = [Path(chosen).expanduser()] if chosen else []
    found += [own / ".ollama" / "models"] if own else []
    found += map(Path, _SYSTEM_FOLDERS)
    return list({path.resolve(): path for path in found if is_folder(path)}.values())


def models() -> Iterator[Stored]:
    """Every tag whose manifest has a GGUF, the same one once."""
    seen = set()
    for root in folders():
        for manifest in _manifests(root):
            model = _model(root, manifest)
            if model is not None and (model.name, model.digest) not in seen:
                seen.add((model.name, model.digest))
                yield model


def _manifests(root: Path) -> Iterator[Path]:
    for top in (path for path in entries(root) if path.name.startswith("manifest")):
        level = [top]
        for _ in range(4):
            level = [path for folder in level for path in entries(folder)]
        yield from filter(is_file, level)


def of_manifest(path: Path) -> Stored | None:
    """The model of a manifest that is given by its path; None for any other file."""
    above = path.absolute().parents
    is_one = len(above) > 4 and above[3].name.startswith("manifest") and is_folder(above[4] / "blobs")
    return _model(above[4], path.absolute()) if is_one else None


def _model(root: Path, manifest: Path) -> Stored | None:
    content = read_json(manifest)
    digests = _digests(content.get("layers"), _MODEL)
    digest = digests[0] if digests else None
    if digest is None:
        return None
    registry, namespace, model, tag = manifest.parts[-4:]
    blob = root / "blobs" / f"sha256-{digest}"
    names = _names(registry, namespace, model, tag)
    meant = _meant(names[0])
    problem = None
    if len(digests) > 1:
        problem = f"it is made of {len(digests)} model files, which Ollama alone can join; expected one"
    elif _digests(content.get("layers"), _ADAPTER):
        problem = "it is a model with an adapter, which is not applied here; merge the two into one GGUF"
    elif not is_file(blob):
        problem = f"its file {blob.name[:19]}… is missing or cannot be read; `ollama pull {names[0]}` brings it back"
    return Stored(
        STORE,
        names[0],
        blob,
        (blob,),
        type=(meant.type if isinstance(meant, SizeName | RepositoryName) else None) or _type(root, content),
        size=_size(registry, namespace, model, tag),
        repository=meant.repository if isinstance(meant, RepositoryName) and registry in _HUBS else None,
        also=tuple(names[1:]),
        digest=digest,
        problem=problem,
    )


def _digests(layers: object, kind: str) -> list[str | None]:
    """Of the layers of this media type; None for one that names no file."""
    found = (layer for layer in layers if isinstance(layer, dict)) if isinstance(layers, list) else ()
    return [_plain(layer.get("digest")) for layer in found if layer.get("mediaType") == kind]


def _plain(digest: object) -> str | None:
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return found[1] if found else None


def _type(root: Path, content: dict[str, object]) -> str | None:
    """What the model's own configuration says."""
    config = content.get("config")
    digest = _plain(config.get("digest")) if isinstance(config, dict) else None
    said = read_json(root / "blobs" / f"sha256-{digest}").get("file_type") if digest else None
    return plain_type(said) if isinstance(said, str) else None


def _names(registry: str, namespace: str, model: str, tag: str) -> list[str]:
    """From what Ollama itself prints to the whole of it; the tag "latest" need not be said."""
    spoken = [f"{registry}/{namespace}/{model}"]
    if registry in _OWN_REGISTRIES:
        spoken.insert(0, f"{namespace}/{model}")
        if namespace == "library":
            spoken.insert(0, model)
    names = [f"{name}:{tag}" for name in spoken]
    return names + spoken if tag == "latest" else names


def _size(registry: str, namespace: str, model: str, tag: str) -> str | None:
    if registry in _OWN_REGISTRIES and namespace == "library":
        meant = _meant(f"{model}:{tag}")
        return meant.size if isinstance(meant, SizeName) else None
    return size_named(model) if registry in _HUBS else None


def _meant(text: str) -> Name:
    """What the name says to everybody; a name that only Ollama allows says nothing more."""
    try:
        return parse(text)
    except InputError:
        return OtherName(text)
