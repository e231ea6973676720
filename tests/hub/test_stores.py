"""What is found in each program's folder, and that nothing found there does harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stores import Stores, gguf, put

from qwen35_local.hub import disk as everything
from qwen35_local.hub import hub_cache, lm_studio, ollama
from qwen35_local.hub.contents import ggufs, is_of_family, snapshot
from qwen35_local.hub.stored import Stored

Q4 = gguf("q4")


def one(found: list[Stored]) -> Stored:
    assert len(found) == 1, found
    return found[0]


def test_hub_cache(disk: Stores) -> None:
    folder = disk.hub("unsloth/Qwen3.5-9B-GGUF", {"Qwen3.5-9B-Q4_K_M.gguf": Q4, "mmproj-F16.gguf": gguf("v", "clip")})
    disk.hub("unsloth/Qwen3.5-9B-GGUF", {"Qwen3.5-9B-Q4_K_M.gguf": gguf("old")}, "b" * 40, is_main=False)
    found = one(list(hub_cache.models()))
    assert (found.name, found.type, found.size) == ("unsloth/Qwen3.5-9B-GGUF:Q4_K_M", "Q4_K_M", "Qwen3.5-9B")
    assert found.path == folder / "Qwen3.5-9B-Q4_K_M.gguf"
    assert found.bytes == len(Q4)
    assert found.digest == found.path.resolve().name
    assert not found.is_ours


def test_parts_are_one_model(disk: Stores) -> None:
    parts = {f"BF16/m-BF16-{n:05d}-of-00003.gguf": gguf(str(n)) for n in (1, 2, 3)}
    folder = disk.hub("u/m-GGUF", parts)
    found = one(list(hub_cache.models()))
    assert found.path == folder / "BF16/m-BF16-00001-of-00003.gguf"
    assert found.bytes == sum(map(len, parts.values()))
    assert (found.type, found.problem) == ("BF16", None)
    (folder / "BF16/m-BF16-00002-of-00003.gguf").unlink()
    problem = one(list(hub_cache.models())).problem
    assert problem is not None and "m-BF16-00002-of-00003.gguf" in problem


def test_checkpoint_in_the_hub_cache(disk: Stores) -> None:
    folder = disk.checkpoint("Qwen/Qwen3.5-9B")
    found = one(list(hub_cache.models()))
    assert (found.name, found.path, found.is_checkpoint, found.problem) == ("Qwen/Qwen3.5-9B", folder, True, None)
    disk.checkpoint("Qwen/Qwen3.5-4B", present=1)
    disk.hub("Qwen/Qwen3.5-2B", {"config.json": b"{}", "tokenizer.json": b"{}"})
    broken = one([model for model in hub_cache.models() if model.path != folder])
    assert broken.problem is not None and "model-00002-of-00002.safetensors" in broken.problem


def test_the_revision_that_main_names(disk: Stores, tmp_path: Path) -> None:
    newer = disk.hub("u/m", {"m.gguf": Q4}, "c" * 40)
    disk.hub("u/m", {"m.gguf": gguf("other")}, "d" * 40, is_main=False)
    held = newer.parents[1]
    assert snapshot(held) == newer
    assert [model.path for model in hub_cache.models()] == [newer / "m.gguf"]
    older = disk.hub("u/m", {"m-Q8_0.gguf": gguf("third")}, "d" * 40, is_main=False)
    assert [model.path for model in hub_cache.models()] == [newer / "m.gguf", older / "m-Q8_0.gguf"]
    put(held / "refs/main", b"../../../..")
    assert snapshot(held) is None


FOLDERS = """
import importlib, json, os, sys
from huggingface_hub import constants
from qwen35_local.hub import hub_cache
for environment in json.loads(sys.argv[1]):
    os.environ.update(environment)
    importlib.reload(constants)
    assert str(hub_cache.folder()) == constants.HF_HUB_CACHE, (environment, hub_cache.folder(), constants.HF_HUB_CACHE)
    for variable in environment:
        del os.environ[variable]
"""


def test_the_hub_cache_is_where_its_library_has_it(disk: Stores) -> None:
    environments = [
        {},
        {"XDG_CACHE_HOME": "/x/cache"},
        {"HF_HOME": "~/hf"},
        {"HF_HOME": "/x/hf", "XDG_CACHE_HOME": "/x/cache"},
        {"HUGGINGFACE_HUB_CACHE": "/x/old", "HF_HOME": "/x/hf"},
        {"HF_HUB_CACHE": "$HOME/hub", "HUGGINGFACE_HUB_CACHE": "/x/old"},
    ]
    subprocess.run([sys.executable, "-c", FOLDERS, json.dumps(environments)], check=True)


@pytest.mark.parametrize(
    ("tag", "name", "size", "repository", "type"),
    [
        ("registry.ollama.ai/library/qwen3.5:9b", "qwen3.5:9b", "Qwen3.5-9B", None, "Q4_K_M"),
        ("registry.ollama.ai/library/qwen3.5:9b-q8_0", "qwen3.5:9b-q8_0", "Qwen3.5-9B", None, "Q8_0"),
        ("registry.ollama.ai/library/mine:latest", "mine:latest", None, None, "Q4_K_M"),
        ("registry.ollama.ai/ann/mine:v2", "ann/mine:v2", None, None, "Q4_K_M"),
        ("ollama.com/library/qwen3.5:27b", "qwen3.5:27b", "Qwen3.5-27B", None, "Q4_K_M"),
        (
            "hf.co/unsloth/Qwen3.5-9B-GGUF:Q5_K_M",
            "hf.co/unsloth/Qwen3.5-9B-GGUF:Q5_K_M",
            "Qwen3.5-9B",
            "unsloth/Qwen3.5-9B-GGUF",
            "Q5_K_M",
        ),
        ("hf.co/u/r:odd_tag", "hf.co/u/r:odd_tag", None, None, "Q4_K_M"),
    ],
)
def test_ollama(disk: Stores, tag: str, name: str, size: str | None, repository: str | None, type: str) -> None:
    blob = disk.ollama(tag, Q4, "Q4_K_M")
    found = one(list(ollama.models()))
    assert (found.name, found.size, found.repository, found.type) == (name, size, repository, type)
    assert found.path == blob
    assert found.digest == blob.name.removeprefix("sha256-")


def test_ollama_where_it_is_told_to_keep_models(disk: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q4, folder="manifests-v2")
    elsewhere = disk.home / "elsewhere"
    (disk.home / ".ollama/models").rename(elsewhere)
    assert list(ollama.models()) == []
    monkeypatch.setenv("OLLAMA_MODELS", str(elsewhere))
    assert one(list(ollama.models())).path == elsewhere / "blobs" / blob.name


def layers(digest: object) -> dict[str, object]:
    return {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": digest}]}


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{not json",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b'{"layers": null}',
        b'{"layers": [null, 5, {}]}',
        json.dumps(layers("sha256:../../../../etc/passwd")).encode(),
        json.dumps(layers("sha256:" + "a" * 63)).encode(),
        json.dumps(layers("sha256:" + "A" * 63 + "/")).encode(),
        json.dumps(layers(["sha256:" + "a" * 64])).encode(),
        json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.tensor"}]}).encode(),
    ],
)
def test_a_broken_manifest_is_left_out(disk: Stores, manifest: bytes) -> None:
    disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q4)
    put(disk.home / ".ollama/models/manifests/registry.ollama.ai/library/qwen3.5/4b", manifest)
    assert one(list(ollama.models())).name == "qwen3.5:9b"


@pytest.mark.parametrize(("beside", "said"), [("adapter", "with an adapter"), ("model", "made of 2 model files")])
def test_what_is_more_than_one_gguf_is_not_run_in_part(disk: Stores, beside: str, said: str) -> None:
    disk.ollama("registry.ollama.ai/ann/tuned:latest", Q4, beside=beside)
    problem = one(list(ollama.models())).problem
    assert problem is not None and said in problem


@pytest.mark.parametrize("beside", ["projector", "system", "params", "license"])
def test_what_a_model_runs_without_is_no_problem(disk: Stores, beside: str) -> None:
    disk.ollama("registry.ollama.ai/ann/tuned:latest", Q4, beside=beside)
    assert one(list(ollama.models())).problem is None


def test_the_whole_name_may_be_said_to_any_length(disk: Stores) -> None:
    disk.ollama("registry.ollama.ai/library/qwen3.5:latest", Q4)
    found = one(list(ollama.models()))
    for name in ("qwen3.5", "library/qwen3.5", "registry.ollama.ai/library/qwen3.5"):
        assert found.is_called(name) and found.is_called(f"{name}:latest")


def test_a_blob_that_is_missing_is_said(disk: Stores) -> None:
    disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q4).unlink()
    problem = one(list(ollama.models())).problem
    assert problem is not None and "ollama pull qwen3.5:9b" in problem


def test_lm_studio(disk: Stores) -> None:
    path = disk.lm_studio("unsloth/Qwen3.5-9B-GGUF/Qwen3.5-9B-Q6_K.gguf")
    disk.lm_studio("unsloth/Qwen3.5-9B-GGUF/mmproj-BF16.gguf")
    disk.lm_studio("unsloth/Qwen3.5-9B-GGUF/vision.gguf", gguf("v", "clip"))
    found = one(list(lm_studio.models()))
    assert (found.path, found.type, found.size) == (path, "Q6_K", "Qwen3.5-9B")
    assert (found.name, found.repository) == (
        "unsloth/Qwen3.5-9B-GGUF/Qwen3.5-9B-Q6_K.gguf",
        "unsloth/Qwen3.5-9B-GGUF",
    )


@pytest.mark.parametrize("models", [".cache/lm-studio/models", "moved/models", "settings"])
def test_lm_studio_wherever_it_keeps_models(disk: Stores, models: str) -> None:
    path = disk.lm_studio("u/m/m.gguf", models=models)
    put(disk.home / ".lmstudio-home-pointer", f"{disk.home / 'moved'}\n".encode())
    put(disk.home / ".lmstudio/settings.json", json.dumps({"downloadsFolder": str(disk.home / "settings")}).encode())
    assert one(list(lm_studio.models())).path == path


@pytest.mark.parametrize("pointer", [b"", b"\0", b"\xff\xfe", b"relative/path", b"/nowhere"])
@pytest.mark.parametrize("settings", [b"", b"[]", b'{"downloadsFolder": 5}', b'{"downloadsFolder": "\\u0000"}'])
def test_lm_studio_with_broken_settings(disk: Stores, pointer: bytes, settings: bytes) -> None:
    disk.lm_studio("u/m/m.gguf")
    put(disk.home / ".lmstudio-home-pointer", pointer)
    put(disk.home / ".lmstudio/settings.json", settings)
    assert len(list(lm_studio.models())) == 1


def test_links_in_a_circle_end(disk: Stores) -> None:
    folder = disk.hub("u/m", {"m.gguf": Q4})
    (folder / "loop").symlink_to(folder)
    (folder / "self.gguf").symlink_to("self.gguf")
    (folder / "gone.gguf").symlink_to("nowhere")
    (disk.home / ".lmstudio/models/u").mkdir(parents=True)
    (disk.home / ".lmstudio/models/u/loop").symlink_to(disk.home / ".lmstudio/models")
    manifests = disk.home / ".ollama/models/manifests"
    manifests.mkdir(parents=True)
    (manifests / "loop").symlink_to(manifests)
    found = everything.models()
    assert {model.path.resolve() for model in found} == {(folder / "m.gguf").resolve()}


def test_a_pipe_is_not_waited_for(disk: Stores) -> None:
    folder = disk.hub("u/m", {"m.gguf": Q4})
    os.mkfifo(folder / "pipe.gguf")
    os.mkfifo(disk.home / ".lmstudio-home-pointer")
    assert len(everything.models()) == 1


def test_whether_it_is_of_the_family(tmp_path: Path) -> None:
    assert is_of_family(put(tmp_path / "a", gguf("a", "qwen35moe")))
    for content in (gguf("a", "llama"), b"GGUF", b"", b"GGUF" + b"\xff" * 300):
        assert not is_of_family(put(tmp_path / "b", content))
    put(tmp_path / "c/config.json", b'{"model_type": "qwen3_5_moe"}')
    put(tmp_path / "d/config.json", b'{"model_type": ["qwen3_5"]}')
    assert is_of_family(tmp_path / "c")
    assert not is_of_family(tmp_path / "d")
    assert not is_of_family(tmp_path)


def test_files_of_two_splits_are_two_models(tmp_path: Path) -> None:
    names = [
        "a-00001-of-00002.gguf",
        "a-00002-of-00002.gguf",
        "a-00001-of-00003.gguf",
        "b.gguf",
        "b-00002-of-00002.gguf",
    ]
    models = ggufs([put(tmp_path / name, Q4) for name in names])
    assert [model.path.name for model in models] == [names[0], names[2], names[4], names[3]]
    assert [model.problem is None for model in models] == [True, False, False, True]
