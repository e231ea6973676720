"""What a model is called when nobody says."""

from pathlib import Path

import pytest

from qwen35_local.models.checkpoint_name import checkpoint_name

HERE = Path("/srv/alice/Qwen3.5-9B-poet")


@pytest.mark.parametrize(
    ("folder", "stated", "name"),
    [
        ("", None, "Qwen3.5-9B-poet"),
        ("", "Qwen/Qwen3.5-9B", "Qwen3.5-9B-poet"),
        ("checkpoint", None, "Qwen3.5-9B-poet"),
        ("checkpoint", "", "Qwen3.5-9B-poet"),
        ("checkpoint", "Qwen/Qwen3.5-9B", "Qwen3.5-9B"),
        ("checkpoint", "C:\\models\\Qwen3.5-9B\\", "Qwen3.5-9B"),
        ("checkpoint", "/tmp/run/checkpoint-90", "Qwen3.5-9B-poet"),
        ("checkpoint", {"a": 1}, "Qwen3.5-9B-poet"),
        ("checkpoint", "x" * 200, "Qwen3.5-9B-poet"),
        ("checkpoint", "a\nb", "Qwen3.5-9B-poet"),
        ("checkpoint-1500", None, "Qwen3.5-9B-poet"),
        ("Checkpoint_step-20", None, "Qwen3.5-9B-poet"),
        ("output/final", None, "Qwen3.5-9B-poet"),
        ("output/final/hf", None, "hf"),
        ("modelling", None, "modelling"),
    ],
)
def test_names(folder: str, stated: object, name: str) -> None:
    assert checkpoint_name(HERE / folder, {"_name_or_path": stated}) == name


def test_a_repository_in_the_cache_keeps_its_name() -> None:
    folder = Path("/cache/models--Qwen--Qwen3.5-0.8B/snapshots/main")
    assert checkpoint_name(folder, {"_name_or_path": "other/Name"}) == "Qwen3.5-0.8B"


def test_the_root_has_a_name_too() -> None:
    assert checkpoint_name(Path("/"), {}) == "model"
