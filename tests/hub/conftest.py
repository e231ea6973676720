"""A disk of one's own, with none of the machine's models on it."""

from pathlib import Path

import pytest
from stores import Stores

from qwen35_local.hub import ollama


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
