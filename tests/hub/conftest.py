"""A disk of one's own, with none of the machine's models on it, and a hub of our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback import LoopbackHub
from stores import Stores

from qwen35_local.hub import ollama, transfer, wire


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """Empty folders of one person, and a working folder beside them."""
    home = tmp_path / "home"
    (tmp_path / "work").mkdir()
    home.mkdir()
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.setenv("QWEN35_HOME", str(home / "ours"))
    monkeypatch.setattr(ollama, "_SYSTEM_FOLDERS", ())
    monkeypatch.chdir(tmp_path / "work")
    return Stores(home)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache folder; nothing waits, no token, no proxy, and no real hub."""
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path / "ours"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for module in (transfer, wire):
        monkeypatch.setattr(module, "sleep", lambda seconds: None)
    return tmp_path / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub().serving() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        yield running
