"""Only what is ours goes, and of the hub's cache only what nobody else names."""

from dataclasses import replace
from pathlib import Path

import pytest
from loopback import LoopbackHub
from stores import Stores, gguf, put

from qwen35_local.errors import InputError
from qwen35_local.hub import home, hub_cache, pull, pulled, remote
from qwen35_local.hub.names import RepositoryName
from qwen35_local.hub.removal import remove, to_remove

OURS = "Qwen3.5-9B-0123456789ab-Q4_K_M"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        to_remove(text)
    return str(caught.value)


@pytest.mark.parametrize("text", [OURS, f"{OURS}.gguf", "9b", "qwen3.5:9b-q4_K_M", "path"])
def test_a_conversion_goes(disk: Stores, text: str) -> None:
    path = disk.convert(OURS)
    other = disk.convert("Qwen3.5-4B-0123456789ab-Q4_K_M")
    remove(to_remove(str(path) if text == "path" else text))
    assert files(disk.home) == {str(other.relative_to(disk.home))}


def test_what_others_keep_stays(disk: Stores) -> None:
    disk.hub("u/r", {"m-Q4_K_M.gguf": gguf("h")})
    disk.ollama("registry.ollama.ai/library/qwen3.5:4b", gguf("o"))
    disk.lm_studio("p/m/m.gguf")
    own = put(Path("mine.gguf"), gguf("mine"))
    before = files(disk.home)
    assert "`hf cache rm model/u/r`" in refusal("u/r")
    assert "`ollama rm qwen3.5:4b`" in refusal("4b")
    assert "LM Studio" in refusal("p/m/m.gguf")
    for text in (str(own), "mine.gguf", "nothing"):
        assert "only what this program made or downloaded" in refusal(text)
    assert files(disk.home) == before and own.is_file()


def test_nothing_is_guessed(disk: Stores) -> None:
    disk.convert(OURS)
    disk.convert(OURS.replace("Q4_K_M", "Q8_0"))
    message = refusal("9b")
    assert OURS in message and "Q8_0" in message


def test_content_of_the_hub_cache_goes_with_its_last_name(disk: Stores) -> None:
    both, own = gguf("both"), gguf("own")
    folder = disk.hub("u/r", {"a/m-Q4_K_M.gguf": own, "m-Q8_0.gguf": both}, "a" * 40)
    disk.hub("u/r", {"m-Q8_0.gguf": both}, "b" * 40, is_main=False)
    found = {model.type: replace(model, is_ours=True) for model in hub_cache.models()}
    remove(found["Q4_K_M"])
    assert {path.name for path in (folder.parents[1] / "blobs").iterdir()} == {found["Q8_0"].digest}
    assert not (folder / "a").exists() and (folder / "m-Q8_0.gguf").is_file()
    remove(found["Q8_0"])
    assert not folder.exists() and (folder.parents[1] / "refs").is_dir()
    assert (folder.parent / ("b" * 40) / "m-Q8_0.gguf").read_bytes() == both


def test_a_link_out_of_the_cache_takes_nothing_with_it(disk: Stores) -> None:
    precious = put(disk.home / "blobs/precious.gguf", gguf("precious"))
    folder = disk.hub("u/r", {"m-Q4_K_M.gguf": gguf("m")})
    (folder / "x-Q8_0.gguf").symlink_to(precious)
    for model in list(hub_cache.models()):
        remove(replace(model, is_ours=True))
    assert precious.is_file()
    assert not folder.parents[1].exists()


def test_what_was_downloaded_is_ours_and_what_lay_there_is_not(disk: Stores, hub: LoopbackHub, cache: Path) -> None:
    parts = {f"Q8_0/m-Q8_0-0000{n}-of-00002.gguf": gguf(f"part {n}") for n in (1, 2)}
    weights = {"config.json": b'{"model_type": "qwen3_5"}', "model.safetensors": b"weights"}
    hub.add("u/r", {"m-Q4_K_M.gguf": gguf("q4"), "n-Q6_K.gguf": gguf("q6")} | parts | weights)

    def download(type: str | None) -> None:
        name = RepositoryName("u", "r", type)
        pull.download(remote.find(name, as_checkpoint=type is None), lambda done, total: None)

    download("Q6_K")
    assert pulled.entries() != set()
    (home() / "pulled.json").unlink()  # as if another program had downloaded it
    for type in ("Q4_K_M", "Q6_K", "Q8_0", None):
        download(type)
    found = {model.type: model for model in hub_cache.models()}
    assert {type: model.is_ours for type, model in found.items()} == {
        "Q4_K_M": True,
        "Q6_K": False,
        "Q8_0": True,
        None: True,
    }
    for type in ("Q4_K_M", "Q8_0", None):
        remove(to_remove(found[type].name))
    held = cache / "models--u--r"
    assert {path.name for path in (held / "snapshots").glob("*/*")} == {"n-Q6_K.gguf"}
    assert [path.name for path in (held / "blobs").iterdir()] == [found["Q6_K"].digest]
    assert pulled.read() == []
    assert "hf cache rm model/u/r" in refusal("u/r")
