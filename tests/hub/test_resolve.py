"""What a name means on a given disk."""

from pathlib import Path

import pytest
from stores import Stores, gguf, put

from qwen35_local.errors import InputError
from qwen35_local.hub import disk as everything
from qwen35_local.hub.names import RepositoryName, SizeName
from qwen35_local.hub.resolve import Absent, Checkpoint, ModelFile, resolve
from qwen35_local.quantize.recipe import FILE_TYPES

Q4, Q8 = gguf("q4"), gguf("q8")
UNSLOTH = "unsloth/Qwen3.5-9B-GGUF"


def path_of(text: str, type: str | None = None) -> Path:
    found = resolve(text, type, convertible=FILE_TYPES)
    assert isinstance(found, ModelFile), found
    return found.path


def refusal(text: str, *, as_source: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        resolve(text, as_source=as_source)
    return str(caught.value)


def test_nothing_is_the_embedded_model() -> None:
    found = resolve(None)
    assert isinstance(found, ModelFile) and found.is_embedded and found.path.is_file()


def test_a_size_on_the_disk(disk: Stores) -> None:
    blob = disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q4, "Q4_K_M")
    for text in ("9b", "qwen3.5:9b", "Qwen3.5-9B", "9b:q4_k_m", "registry.ollama.ai/library/qwen3.5:9b"):
        assert path_of(text) == blob
    assert path_of("9b", "q4_k_m") == blob
    assert resolve("9b:Q8_0") == Absent(SizeName("Qwen3.5-9B", "Q8_0"))
    assert resolve("9b", "Q8_0") == Absent(SizeName("Qwen3.5-9B", "Q8_0"))
    assert resolve("4b") == Absent(SizeName("Qwen3.5-4B"))


def test_a_repository_on_the_disk(disk: Stores) -> None:
    folder = disk.hub(UNSLOTH, {"Qwen3.5-9B-Q4_K_M.gguf": Q4, "Qwen3.5-9B-Q8_0.gguf": Q8})
    for text in (UNSLOTH, UNSLOTH.lower(), f"hf.co/{UNSLOTH}", f"https://huggingface.co/{UNSLOTH}:q4_k_m", "9b"):
        assert path_of(text) == folder / "Qwen3.5-9B-Q4_K_M.gguf"
    for text in (f"{UNSLOTH}:Q8_0", "9b:Q8_0", "Qwen3.5-9B-Q8_0.gguf", f"{UNSLOTH}/Qwen3.5-9B-Q8_0.gguf"):
        assert path_of(text) == folder / "Qwen3.5-9B-Q8_0.gguf"
    assert resolve(f"{UNSLOTH}:Q6_K") == Absent(RepositoryName("unsloth", "Qwen3.5-9B-GGUF", "Q6_K"))
    assert resolve("other/Qwen3.5-9B-GGUF") == Absent(RepositoryName("other", "Qwen3.5-9B-GGUF"))


def test_a_file_of_lm_studio(disk: Stores) -> None:
    path = disk.lm_studio(f"{UNSLOTH}/Qwen3.5-9B-Q6_K.gguf")
    for text in (f"{UNSLOTH}/Qwen3.5-9B-Q6_K.gguf", "Qwen3.5-9B-Q6_K.gguf", "qwen3.5-9b-q6_k", UNSLOTH, "9b"):
        assert path_of(text) == path


def test_a_name_that_only_ollama_has(disk: Stores) -> None:
    blob = disk.ollama("registry.ollama.ai/library/mine:latest", Q4)
    odd = disk.ollama("hf.co/u/r:odd_tag", Q8)
    assert path_of("mine") == path_of("mine:latest") == blob
    assert path_of("hf.co/u/r:odd_tag") == odd
    assert "no model of that name" in refusal("mine:v2")


def test_a_checkpoint_is_converted_to_the_type_that_is_said(disk: Stores) -> None:
    folder = disk.checkpoint("Qwen/Qwen3.5-9B")
    for text, type in (("Qwen/Qwen3.5-9B", "Q4_K_M"), ("9b", "Q4_K_M"), ("9b:Q8_0", "Q8_0")):
        found = resolve(text, convertible=FILE_TYPES)
        assert isinstance(found, Checkpoint)
        assert (found.folder, found.type) == (folder, type)
        assert found.cached.parent == disk.ours
        assert found.cached.name.startswith("Qwen3.5-9B-") and found.cached.name.endswith(f"-{type}.gguf")
    assert isinstance(resolve("9b:UD-Q4_K_XL", convertible=FILE_TYPES), Absent)


def test_a_file_is_opened_before_a_checkpoint_is_converted(disk: Stores) -> None:
    folder = disk.checkpoint("Qwen/Qwen3.5-9B")
    ours = disk.convert("Qwen3.5-9B-0123456789ab-Q4_K_M")
    assert path_of("9b") == path_of("Qwen3.5-9B-0123456789ab-Q4_K_M") == ours
    for text in ("9b", "Qwen/Qwen3.5-9B"):
        source = resolve(text, as_source=True)
        assert isinstance(source, Checkpoint) and source.folder == folder


def test_two_quantisations_without_the_usual_one_are_refused_with_both(disk: Stores) -> None:
    disk.hub(UNSLOTH, {"Qwen3.5-9B-Q5_K_M.gguf": Q4, "Qwen3.5-9B-Q8_0.gguf": Q8})
    for text in ("9b", UNSLOTH):
        message = refusal(text)
        assert f"({UNSLOTH}:Q5_K_M)" in message and f"({UNSLOTH}:Q8_0)" in message


def test_one_size_from_two_publishers_is_refused_with_both(disk: Stores) -> None:
    disk.hub(UNSLOTH, {"Qwen3.5-9B-Q4_K_M.gguf": Q4})
    blob = disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q8, "Q4_K_M")
    message = refusal("9b")
    assert f"({UNSLOTH}:Q4_K_M)" in message and "(qwen3.5:9b)" in message
    assert path_of("qwen3.5:9b") == blob
    assert path_of(UNSLOTH).read_bytes() == Q4


def test_the_same_bytes_twice_are_one_thing(disk: Stores) -> None:
    first = disk.hub(UNSLOTH, {"Qwen3.5-9B-Q4_K_M.gguf": Q4}) / "Qwen3.5-9B-Q4_K_M.gguf"
    disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q4, "Q4_K_M")
    link = disk.home / ".lmstudio/models" / UNSLOTH / "Qwen3.5-9B-Q4_K_M.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(first)
    assert path_of("9b") == first


def test_a_folder_here_and_a_size(disk: Stores) -> None:
    put(Path("9b/m.gguf"), Q4)
    message = refusal("9b")
    assert "./9b" in message and "qwen3.5:9b" in message
    assert path_of("./9b") == Path("9b/m.gguf")


def test_a_folder_here_and_a_repository(disk: Stores) -> None:
    put(Path(UNSLOTH) / "m.gguf", Q4)
    assert path_of(UNSLOTH) == Path(UNSLOTH) / "m.gguf"
    disk.hub(UNSLOTH, {"Qwen3.5-9B-Q4_K_M.gguf": Q8})
    message = refusal(UNSLOTH)
    assert f"./{UNSLOTH}" in message and f"{UNSLOTH}:Q4_K_M" in message


def test_a_file_here_comes_before_one_of_that_name_elsewhere(disk: Stores) -> None:
    disk.lm_studio("u/m/m.gguf")
    assert path_of("m.gguf") == disk.home / ".lmstudio/models/u/m/m.gguf"
    put(Path("m.gguf"), Q4)
    assert path_of("m.gguf") == Path("m.gguf")


def test_every_listed_name_means_its_own_file(disk: Stores) -> None:
    disk.convert("Qwen3.5-9B-0123456789ab-Q4_K_M")
    disk.hub(UNSLOTH, {"Qwen3.5-9B-Q4_K_M.gguf": Q4, "Qwen3.5-9B-Q8_0.gguf": Q8, "twin-Q8_0.gguf": gguf("twin")})
    disk.hub("u/plain", {"plain.gguf": gguf("plain")})
    disk.lm_studio(f"{UNSLOTH}/Qwen3.5-9B-Q4_K_M.gguf", gguf("lm"))
    disk.ollama("registry.ollama.ai/library/qwen3.5:9b", gguf("o"), "Q4_K_M")
    disk.ollama("registry.ollama.ai/ann/mine:latest", gguf("m"))
    disk.ollama(f"hf.co/{UNSLOTH}:Q8_0", gguf("h"))
    listed = everything.models()
    assert len(listed) == 9
    for model in listed:
        assert path_of(model.name) == model.path, model.name


def test_folders(disk: Stores) -> None:
    put(Path("one/m-Q4_K_M.gguf"), Q4)
    put(Path("one/mmproj-F16.gguf"), gguf("v", "clip"))
    assert path_of("./one") == Path("one/m-Q4_K_M.gguf")
    for n in (1, 2):
        put(Path(f"parts/m-0000{n}-of-00002.gguf"), Q4)
    assert path_of("parts") == Path("parts/m-00001-of-00002.gguf")
    Path("parts/m-00001-of-00002.gguf").unlink()
    assert "m-00001-of-00002.gguf" in refusal("parts")
    put(Path("two/a.gguf"), Q4)
    put(Path("two/b.gguf"), Q4)
    assert "(two/a.gguf)" in refusal("two") and "(two/b.gguf)" in refusal("two")
    Path("empty").mkdir()
    assert "expected one GGUF, or config.json" in refusal("empty")


def test_a_manifest_of_ollama(disk: Stores) -> None:
    blob = disk.ollama("registry.ollama.ai/library/qwen3.5:9b", Q4)
    manifest = disk.home / ".ollama/models/manifests/registry.ollama.ai/library/qwen3.5/9b"
    assert path_of(str(manifest)) == blob
    blob.unlink()
    assert "ollama pull qwen3.5:9b" in refusal(str(manifest))
    put(manifest.with_name("other"), b"{}")
    assert path_of(str(manifest.with_name("other"))) == manifest.with_name("other")


def test_a_checkpoint_with_a_gguf_in_it(disk: Stores) -> None:
    put(Path("c/config.json"), b"{}")
    put(Path("c/model.safetensors"), b"x")
    assert isinstance(resolve("./c"), Checkpoint)
    put(Path("c/m.gguf"), Q4)
    assert "c/config.json" in refusal("./c") and "c/m.gguf" in refusal("./c")
    for found in (resolve("c/config.json"), resolve("./c", as_source=True)):
        assert isinstance(found, Checkpoint) and found.folder == Path("c")
    assert path_of("c/m.gguf") == Path("c/m.gguf")
    put(Path("g/config.json"), b"{}")
    put(Path("g/m.gguf"), Q4)
    assert path_of("./g") == Path("g/m.gguf")


def test_a_folder_of_the_hub_cache(disk: Stores) -> None:
    folder = disk.hub(UNSLOTH, {"Qwen3.5-9B-Q4_K_M.gguf": Q4})
    assert path_of(str(folder.parents[1])) == folder / "Qwen3.5-9B-Q4_K_M.gguf"
    checkpoint = disk.checkpoint("Qwen/Qwen3.5-9B")
    found = resolve(str(checkpoint.parents[1]))
    assert isinstance(found, Checkpoint) and found.folder == checkpoint


def test_what_is_broken_is_said(disk: Stores) -> None:
    disk.ollama("registry.ollama.ai/library/mine:latest", Q4).unlink()
    assert "ollama pull mine:latest" in refusal("mine")
    disk.checkpoint("Qwen/Qwen3.5-9B", present=1)
    found = resolve("9b")
    assert isinstance(found, Absent) and found.problem is not None
    assert "model-00002-of-00002.safetensors" in found.problem


@pytest.mark.parametrize(
    "text", ["/nowhere/m.gguf", "./m.gguf", "~/m.gguf", "m.gguf", "a/b/c", "x" * 4000, "/" + "x" * 4000]
)
def test_what_is_not_there_is_refused(disk: Stores, text: str) -> None:
    assert "no such file" in refusal(text)


def test_what_is_no_file_is_refused(disk: Stores) -> None:
    Path("link").symlink_to("nowhere")
    assert "a link to nothing" in refusal("./link")
    Path("device").symlink_to("/dev/null")
    assert "not a regular file" in refusal("./device") and "not a regular file" in refusal("/dev/null")
    assert "sizes are 0.8b" in refusal("10b")
    with pytest.raises(InputError, match="two types"):
        resolve("9b:Q8_0", "Q4_K_M")
