"""What is chosen from a repository's list of files, and what of a hostile list is taken at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import COMMIT

from qwen35_local.errors import InputError
from qwen35_local.hub.listing import Listing, RemoteFile, parse
from qwen35_local.hub.offer import checkpoint, choose, offers, types
from qwen35_local.models.registry import SIZES
from qwen35_local.models.sources import sources


def listing(*paths: str) -> Listing:
    return Listing("user/repo", COMMIT, tuple(RemoteFile(path, 10, "0" * 64) for path in sorted(paths)))


def chosen(type: str | None, *paths: str) -> list[str] | None:
    offer = choose(listing(*paths), type)
    return None if offer is None else [file.path for file in offer.files]


PUBLISHED = (
    "Qwen3.5-9B-Q4_K_M.gguf",
    "Qwen3.5-9B-UD-Q4_K_XL.gguf",
    "Qwen3.5-9B-IQ4_XS.gguf",
    "Qwen3.5-9B-Q8_0.gguf",
    "Qwen3.5-9B-UD-IQ2_XXS.gguf",
    "BF16/Qwen3.5-9B-BF16-00001-of-00002.gguf",
    "BF16/Qwen3.5-9B-BF16-00002-of-00002.gguf",
    "mmproj-F16.gguf",
    "mmproj-BF16.gguf",
    "imatrix_unsloth.gguf",
    "README.md",
    "config.json",
)


@pytest.mark.parametrize(
    ("type", "first", "count"),
    [
        (None, "Qwen3.5-9B-Q4_K_M.gguf", 1),
        ("Q4_K_M", "Qwen3.5-9B-Q4_K_M.gguf", 1),
        ("UD-Q4_K_XL", "Qwen3.5-9B-UD-Q4_K_XL.gguf", 1),
        ("IQ4_XS", "Qwen3.5-9B-IQ4_XS.gguf", 1),
        ("BF16", "BF16/Qwen3.5-9B-BF16-00001-of-00002.gguf", 2),
    ],
)
def test_type_is_chosen_from_the_file_names(type: str | None, first: str, count: int) -> None:
    found = chosen(type, *PUBLISHED)
    assert found is not None
    assert (found[0], len(found)) == (first, count)


def test_what_a_repository_has() -> None:
    assert types(listing(*PUBLISHED)) == ["BF16", "IQ4_XS", "Q4_K_M", "Q8_0", "UD-IQ2_XXS", "UD-Q4_K_XL"]


def test_a_type_that_is_not_there_is_none() -> None:
    assert chosen("Q6_K", *PUBLISHED) is None
    assert chosen("F16", "mmproj-F16.gguf") is None


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        (("m-Q8_0.gguf", "m-Q5_K_M.gguf", "m-Q3_K_M.gguf"), "m-Q5_K_M.gguf"),
        (("m-Q8_0.gguf", "m-Q4_K_S.gguf"), "m-Q4_K_S.gguf"),
        (("m-BF16.gguf", "m-Q3_K_M.gguf"), "m-Q3_K_M.gguf"),
        (("m-UD-IQ2_XXS.gguf", "m-F16.gguf"), "m-F16.gguf"),
        (("m-UD-IQ2_XXS.gguf", "m-IQ3_XXS.gguf", "m-TQ1_0.gguf"), "m-IQ3_XXS.gguf"),
        (("model.gguf", "mmproj.gguf"), "model.gguf"),
    ],
)
def test_without_a_type_the_nearest_to_four_bits(present: tuple[str, ...], wanted: str) -> None:
    assert chosen(None, *present) == [wanted]


def test_only_types_that_are_not_run_are_no_offer_unless_asked_for() -> None:
    assert chosen(None, "m-UD-IQ1_S.gguf") is None
    assert chosen("UD-IQ1_S", "m-UD-IQ1_S.gguf") == ["m-UD-IQ1_S.gguf"]


def test_the_folder_names_the_type_when_the_file_does_not() -> None:
    assert chosen("Q4_K_M", "Q4_K_M/model-00001-of-00002.gguf", "Q4_K_M/model-00002-of-00002.gguf") is not None


def test_a_split_with_a_missing_part_is_no_offer() -> None:
    assert offers(listing("m-Q4_K_M-00001-of-00003.gguf", "m-Q4_K_M-00003-of-00003.gguf")) == []


def test_two_of_a_type_are_refused_with_both() -> None:
    with pytest.raises(InputError, match=r"2 models as Q4_K_M \(a-Q4_K_M.gguf, b-Q4_K_M.gguf\).*hf download"):
        choose(listing("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"), "Q4_K_M")


def test_a_checkpoint_is_its_weights_and_what_describes_them() -> None:
    paths = (
        "config.json",
        "model-00001-of-00001.safetensors",
        "tokenizer.json",
        "a.py",
        "x.bin",
        "original/a.safetensors",
    )
    offer = checkpoint(listing(*paths))
    assert offer is not None
    assert offer.is_checkpoint
    assert [file.path for file in offer.files] == list(paths[:3])
    assert checkpoint(listing("config.json", "pytorch_model.bin")) is None
    assert checkpoint(listing("model.safetensors")) is None


def test_every_published_size_has_a_source() -> None:
    names = {name for size in SIZES.values() for name in (size.name, *size.also)}
    assert set(sources()) == names
    nine = sources()["Qwen3.5-9B"]
    assert nine.checkpoint == "Qwen/Qwen3.5-9B"
    assert nine.gguf[0] == "unsloth/Qwen3.5-9B-GGUF"


def answer(*siblings: Any, sha: Any = COMMIT) -> bytes:
    return json.dumps({"sha": sha, "siblings": siblings}).encode()


def entry(path: Any = "a-Q4_K_M.gguf", size: Any = 10, sha256: Any = "a" * 64) -> dict[str, Any]:
    return {"rfilename": path, "size": 1, "blobId": "b" * 40, "lfs": {"size": size, "sha256": sha256}}


def test_a_listing_is_read() -> None:
    small = {"rfilename": "config.json", "size": 7, "blobId": "b" * 40}
    found = parse("user/repo", answer(entry(), small))
    assert found.revision == COMMIT
    assert found.files == (RemoteFile("a-Q4_K_M.gguf", 10, "a" * 64), RemoteFile("config.json", 7, "b" * 40))


@pytest.mark.parametrize(
    "path",
    [
        *("../a.gguf", "/etc/a.gguf", "a/../../b.gguf", "a\\b.gguf", "C:a.gguf", ".hidden", "a//b.gguf", "", "a/"),
        *("a\x1b[2J.gguf", "a\n.gguf", "a\u202e.gguf", "a.gguf\x00", "x" * 300, "a/" * 20 + "b.gguf", 5, None, ["a"]),
    ],
)
def test_names_that_lead_elsewhere_are_left_out(path: Any) -> None:
    assert parse("user/repo", answer(entry(path))).files == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"size": -1},
        {"size": 1 << 60},
        {"size": "10"},
        {"size": True},
        {"size": 1.5},
        {"sha256": "zz"},
        {"sha256": None},
    ],
)
def test_sizes_and_checksums_that_are_none_are_left_out(changed: dict[str, Any]) -> None:
    assert parse("user/repo", answer(entry(**changed))).files == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>login</html>",
        b"[]",
        b"null",
        b'{"sha": 5, "siblings": []}',
        b"[" * 100_000,
        answer(sha="../x"),
        b"\xff",
    ],
)
def test_what_is_no_listing_is_said(text: bytes) -> None:
    with pytest.raises(InputError, match="no list of files"):
        parse("user/repo", text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["rfilename", "size", "blobId", "lfs"]), JSON)
def test_any_value_of_any_key_is_taken_or_left_out(key: str, value: Any) -> None:
    for file in parse("user/repo", answer(entry() | {key: value})).files:
        assert ".." not in file.path.split("/")
        assert file.n_bytes >= 0
