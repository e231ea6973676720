"""Finding an offer on a hub, and reading the header of a file that nobody has downloaded."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from huggingface_hub import close_session, constants
from loopback import COMMIT, LoopbackHub
from stores import Stores

from qwen35_local import _core
from qwen35_local.errors import FormatError, InputError
from qwen35_local.hub import embedded_model, remote, wire
from qwen35_local.hub.names import RepositoryName, SizeName

NINE = SizeName("Qwen3.5-9B")
UNSLOTH = "unsloth/Qwen3.5-9B-GGUF"
FILE = "Qwen3.5-9B-Q4_K_M.gguf"
DEMO = embedded_model().read_bytes()


def named(repository: str, type: str | None = None) -> RepositoryName:
    return RepositoryName(*repository.split("/"), type)


def test_a_size_is_looked_for_in_its_repositories_in_order(hub: LoopbackHub) -> None:
    hub.add("lmstudio-community/Qwen3.5-9B-GGUF", {FILE: b"GGUF1", "Qwen3.5-9B-Q8_0.gguf": b"GGUF2"})
    assert remote.find(NINE).repository == "lmstudio-community/Qwen3.5-9B-GGUF"
    hub.add(UNSLOTH, {FILE: b"GGUF3"})
    offer = remote.find(NINE)
    assert (offer.repository, offer.revision, offer.type, offer.n_bytes) == (UNSLOTH, COMMIT, "Q4_K_M", 5)
    assert remote.find(NINE, "q8_0").repository == "lmstudio-community/Qwen3.5-9B-GGUF"
    assert remote.find(SizeName("Qwen3.5-9B", "Q8_0")).type == "Q8_0"


def test_an_unknown_type_lists_what_there_is(hub: LoopbackHub) -> None:
    hub.add(UNSLOTH, {FILE: b"", "Qwen3.5-9B-UD-Q4_K_XL.gguf": b""})
    with pytest.raises(InputError, match=f"as Q6_K: {UNSLOTH} has Q4_K_M, UD-Q4_K_XL; choose with --type"):
        remote.find(NINE, "Q6_K")
    with pytest.raises(InputError, match=f"{UNSLOTH} has nothing as Q6_K; it has Q4_K_M, UD-Q4_K_XL"):
        remote.find(named(UNSLOTH, "Q6_K"))


def test_a_repository_with_weights_alone_is_a_checkpoint(hub: LoopbackHub) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    hub.add("Qwen/Qwen3.5-9B", files)
    assert remote.find(named("Qwen/Qwen3.5-9B")).is_checkpoint
    assert remote.find(NINE, as_checkpoint=True).repository == "Qwen/Qwen3.5-9B"
    hub.add("user/both", files | {"m-Q8_0.gguf": b"GGUF"})
    assert remote.find(named("user/both")).type == "Q8_0"
    assert remote.find(named("user/both"), as_checkpoint=True).is_checkpoint
    hub.add("user/none", {"README.md": b""})
    with pytest.raises(InputError, match="nothing as a type that runs here; it has no model as GGUF"):
        remote.find(named("user/none"))


def test_header_is_read_by_ranges_and_once(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_FIRST_HEADER", 10_000)
    hub.add(UNSLOTH, {FILE: DEMO})
    path = remote.header(remote.find(NINE))
    whole, header = _core.GgufFile(embedded_model()), _core.GgufFile(path, header=True)
    assert header.metadata == whole.metadata
    assert [(t.name, t.shape, t.dtype) for t in header.tensors] == [(t.name, t.shape, t.dtype) for t in whole.tensors]
    ranges = [headers.get("range") for name, headers in hub.requests if name.startswith("storage")]
    assert ranges[:3] == ["bytes=0-9999", "bytes=10000-19999", "bytes=20000-39999"]
    assert hub.sent == path.stat().st_size < len(DEMO) / 4
    before = len(hub.requests)
    assert remote.header(remote.find(NINE)) == path
    assert len(hub.requests) == before + 1


def test_header_without_ranges_on_the_server(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_FIRST_HEADER", 300_000)
    hub.has_ranges = False
    hub.add(UNSLOTH, {FILE: DEMO})
    path = remote.header(remote.find(NINE))
    assert path.read_bytes() == DEMO[: path.stat().st_size]


def test_headers_of_all_parts_lie_together(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_FIRST_HEADER", 1 << 20)
    names = [f"Q4_K_M/m-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
    hub.add("user/split", {names[0]: DEMO, names[1]: DEMO + b"more"})
    path = remote.header(remote.find(named("user/split")))
    assert sorted(entry.name for entry in path.parent.iterdir()) == [Path(name).name for name in names]
    assert path.name == Path(names[0]).name


def test_a_split_model_is_described_by_the_headers_of_its_parts(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote, "_FIRST_HEADER", 30_000)
    monkeypatch.setattr(remote, "_LATER_HEADER", 1_000)
    writer = GGUFWriter(tmp_path / "m-Q4_K_M.gguf", "qwen35", split_max_tensors=20)
    writer.add_token_list([f"token {n}" for n in range(5000)])
    for n in range(60):
        writer.add_tensor(f"blk.{n}.weight", np.zeros(1024, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files = {f"BF16/{path.name}": path.read_bytes() for path in tmp_path.glob("m-*.gguf")}
    assert len(files) == 3
    hub.add("user/split", files)
    header = _core.GgufFile(remote.header(remote.find(named("user/split"))), header=True)
    assert sorted(tensor.name for tensor in header.tensors) == sorted(f"blk.{n}.weight" for n in range(60))
    assert hub.sent < sum(map(len, files.values())) / 2


def test_header_of_a_file_that_is_no_gguf(hub: LoopbackHub) -> None:
    hub.add(UNSLOTH, {FILE: b"<html>" * 10_000})
    with pytest.raises(FormatError, match="is no GGUF"):
        remote.header(remote.find(NINE))


def test_header_that_never_ends_is_bounded(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_MOST_HEADER", 40_000)
    monkeypatch.setattr(remote, "_FIRST_HEADER", 10_000)
    hub.add(UNSLOTH, {FILE: DEMO})
    assert remote.header(remote.find(NINE)).stat().st_size == 40_000
    assert hub.sent == 40_000


def test_header_that_cannot_be_kept(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(UNSLOTH, {FILE: DEMO})
    offer = remote.find(NINE)
    monkeypatch.setattr(remote, "extend", full)
    with pytest.raises(InputError, match=r"ours/headers: No space left on device; .* QWEN35_HOME"):
        remote.header(offer)
    (cache.parent / "file").write_bytes(b"")
    monkeypatch.setenv("QWEN35_HOME", str(cache.parent / "file"))
    with pytest.raises(InputError, match=r"file/headers: Not a directory; .* QWEN35_HOME"):
        remote.header(offer)


def full(*arguments: object) -> None:
    """As a write does, without a file's name."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_config_of_a_checkpoint(hub: LoopbackHub) -> None:
    hub.small = {"config.json"}
    hub.add("Qwen/Qwen3.5-9B", {"config.json": b'{"a": 1}', "model.safetensors": b"weights"})
    folder = remote.header(remote.find(NINE, as_checkpoint=True))
    assert (folder / "config.json").read_bytes() == b'{"a": 1}'
    assert not (folder / "model.safetensors").exists()


def test_token_goes_to_the_hub_and_not_behind_its_redirects(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.tokens["user/private"] = "hf_secret"
    hub.add("user/private", {FILE: DEMO})
    with pytest.raises(wire.Absent, match=r"no repository user/private .*HF_TOKEN"):
        remote.find(named("user/private"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    remote.header(remote.find(named("user/private")))
    seen = {(name.partition(":")[0], headers.get("authorization")) for name, headers in hub.requests[1:]}
    assert seen == {("hub", "Bearer hf_secret"), ("storage", None)}


def test_token_that_cannot_be_one(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_\u20ac\u0001secret")
    with pytest.raises(InputError, match="characters that no token has") as caught:
        remote.find(named("user/private"))
    assert "secret" not in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (403, {"X-Error-Code": "GatedRepo"}, "is gated: accept its licence on http://127[^ ]*/user/repo, then"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "does not accept the token"),
        (401, {"X-Error-Code": "RepoNotFound"}, "no repository user/repo .or it is private"),
        (404, {"X-Error-Code": "RepoNotFound"}, "no repository user/repo .or it is private"),
        (418, {"X-Error-Message": "tea\tpot"}, "answers 418 for repository user/repo: tea pot"),
        (429, {"Retry-After": "3600"}, r"429, too many requests; try again in 3600 seconds; HF_TOKEN"),
        (429, {"RateLimit": '"api";r=0;t=155'}, "try again in 155 seconds"),
    ],
)
def test_refusals_are_said(hub: LoopbackHub, status: int, headers: dict[str, str], said: str) -> None:
    hub.statuses["/api/models/user/repo"] = [(status, headers)] * 9
    with pytest.raises(InputError, match=said):
        remote.find(named("user/repo"))


def test_a_busy_hub_is_asked_again(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(wire, "sleep", waited.append)
    hub.add("user/repo", {FILE: DEMO})
    hub.statuses["/api/models/user/repo"] = [(429, {"Retry-After": "7"}), (503, {})]
    assert remote.find(named("user/repo")).type == "Q4_K_M"
    assert waited == [7, 2]
    hub.statuses["/api/models/user/repo"] = [(503, {})] * 9
    with pytest.raises(wire.Unreachable, match="answers 503"):
        remote.find(named("user/repo"))
    assert len(hub.statuses["/api/models/user/repo"]) == 9 - 2 * 4


def test_a_name_that_is_nearly_one_gets_the_right_one(hub: LoopbackHub) -> None:
    for typed in ("unsloth/Qwen3.5-9B", "unslot/Qwen3.5-9B-GGUFF", "Qwen/Qwen3.5-9b-gguf"):
        with pytest.raises(wire.Absent, match=f"9b is at {UNSLOTH}, .*`qwen35 pull 9b`"):
            remote.find(named(typed))
    with pytest.raises(wire.Absent) as caught:
        remote.find(named("someone/else"))
    assert "qwen35 pull" not in str(caught.value)
    with pytest.raises(wire.Absent, match=r"has none of .*`qwen35 pull 9b --convert`"):
        remote.find(NINE)


def test_no_network(cache: Path) -> None:
    with pytest.raises(wire.Unreachable, match=r"no answer from 127.0.0.1:9 .*proxy"):
        remote.find(NINE)


def test_offline(disk: Stores, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(wire.Unreachable, match=r"HF_HUB_OFFLINE is set, .*; on this disk is none$"):
        remote.find(NINE)
    disk.ollama("registry.ollama.ai/library/qwen3.5:4b", DEMO, "Q4_K_M")
    with pytest.raises(wire.Unreachable, match=r"; on this disk are qwen3.5:4b$"):
        remote.find(NINE)
    with pytest.raises(wire.Unreachable, match="HF_HUB_OFFLINE is set"):
        wire.read(wire.listing_url(UNSLOTH), "it", 1)
    assert hub.requests == []


def test_a_proxy_is_asked_instead(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("user/repo", {FILE: DEMO})
    monkeypatch.setenv("http_proxy", hub.endpoint)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    close_session()  # the library's, which has read the environment
    try:
        assert remote.find(named("user/repo")).type == "Q4_K_M"
    finally:
        close_session()
    assert hub.requests[-1][1]["host"] == "hub.invalid"


@pytest.mark.parametrize("address", ["huggingface.co", "ftp://x", "http://", "http://[::1", "http://x:port"])
def test_endpoint_that_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(InputError, match="HF_ENDPOINT is"):
        remote.find(NINE)


def test_an_answer_without_end_is_bounded(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_MOST_LISTING", 1000)
    hub.listings["user/repo"] = b" " * 100_000
    with pytest.raises(InputError, match="sends more than 1,000 bytes"):
        remote.find(named("user/repo"))


def test_redirects_without_end_are_an_error(hub: LoopbackHub) -> None:
    hub.statuses["/api/models/user/repo"] = [(302, {"Location": "/api/models/user/repo"})] * 100
    with pytest.raises(wire.Unreachable, match="no answer"):
        remote.find(named("user/repo"))
    hub.statuses["/api/models/user/repo"] = [(302, {"Location": "file:///etc/passwd"})] * 2
    with pytest.raises(wire.Unreachable, match="no answer"):
        remote.find(named("user/repo"))
