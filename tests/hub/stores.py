"""Small folders of models as other programs leave them, written without the code under test."""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path


def gguf(seed: str, architecture: str = "qwen35") -> bytes:
    """The beginning of a GGUF with one key; `seed` makes the bytes differ. No tensors: it is not meant to be loaded."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    pairs += text("general.name") + struct.pack("<I", 8) + text(seed)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pairs


@dataclass(frozen=True)
class Stores:
    """The folders of one person: ours, the hub's cache, Ollama's and LM Studio's."""

    home: Path

    @property
    def ours(self) -> Path:
        return self.home / "ours" / "models"

    def convert(self, name: str, content: bytes | None = None) -> Path:
        """A conversion of ours, as in "Qwen3.5-9B-0123456789ab-Q4_K_M"."""
        return put(self.ours / f"{name}.gguf", content or gguf(name))

    def hub(self, repository: str, files: dict[str, bytes], revision: str = "a" * 40, *, is_main: bool = True) -> Path:
        """A snapshot whose files are links to blobs; gives its folder."""
        held = self.home / ".cache/huggingface/hub" / f"models--{repository.replace('/', '--')}"
        for name, content in files.items():
            blob = put(held / "blobs" / hashlib.sha256(content).hexdigest(), content)
            link = held / "snapshots" / revision / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        if is_main:
            put(held / "refs/main", revision.encode())
        return held / "snapshots" / revision

    def checkpoint(self, repository: str, shards: int = 2, present: int = 2) -> Path:
        names = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
        index = json.dumps({"weight_map": {f"tensor{n}": name for n, name in enumerate(names)}}).encode()
        files = {"config.json": b'{"model_type": "qwen3_5"}', "model.safetensors.index.json": index}
        return self.hub(repository, files | {name: name.encode() for name in names[:present]})

    def ollama(
        self, name: str, content: bytes, type: str | None = None, folder: str = "manifests", beside: str = "template"
    ) -> Path:
        """A tag, as in "registry.ollama.ai/library/qwen3.5:9b", with one more layer `beside` the model; gives its
        blob."""
        root = self.home / ".ollama/models"
        layers = [{"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "1" * 64, "size": 1}]
        blob = put(root / "blobs" / f"sha256-{hashlib.sha256(content).hexdigest()}", content)
        layers.append(
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": blob.name.replace("-", ":"),
                "size": len(content),
            }
        )
        layers.append(
            {"mediaType": f"application/vnd.ollama.image.{beside}", "digest": "sha256:" + "2" * 64, "size": 1}
        )
        config = json.dumps({"model_format": "gguf", "file_type": type or "unknown"}).encode()
        settings = put(root / "blobs" / f"sha256-{hashlib.sha256(config).hexdigest()}", config)
        manifest = {"schemaVersion": 2, "config": {"digest": settings.name.replace("-", ":")}, "layers": layers}
        put(root / folder / name.replace(":", "/"), json.dumps(manifest).encode())
        return blob

    def lm_studio(self, name: str, content: bytes | None = None, models: str = ".lmstudio/models") -> Path:
        """A file, as in "unsloth/Qwen3.5-9B-GGUF/Qwen3.5-9B-Q4_K_M.gguf"."""
        return put(self.home / models / name, content or gguf(name))


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
