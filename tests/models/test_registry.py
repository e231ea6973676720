"""Parameter counts of the published sizes."""

from dataclasses import replace

import pytest

from qwen35_local.models.registry import SIZES, parameters

# Text with embeddings and output, MTP, and active per token, in 1e9, as docs/architecture.md 9 has them.
TABLE = {
    "Qwen3.5-0.8B": (0.752, 0.0205, 0.752),
    "Qwen3.5-2B": (1.882, 0.0608, 1.882),
    "Qwen3.5-4B": (4.206, 0.1206, 4.206),
    "Qwen3.5-9B": (8.954, 0.2433, 7.937),
    "Qwen3.5-27B": (26.896, 0.4247, 25.625),
    "Qwen3.5-35B-A3B": (34.661, 0.8446, 2.946),
    "Qwen3.5-122B-A10B": (122.112, 2.5237, 9.008),
    "Qwen3.5-397B-A17B": (396.346, 6.5956, 16.332),
}


@pytest.mark.parametrize("name", SIZES)
def test_counts_are_the_published_ones(name: str) -> None:
    size = SIZES[name]
    count = parameters(size.config)
    assert count.text + count.mtp + size.vision.parameters == size.total_parameters
    text, mtp, active = TABLE[name]
    assert round(count.text / 1e9, 3) == text
    assert round(count.mtp / 1e9, 4) == mtp
    assert round(count.active / 1e9, 3) == active


def test_every_size_of_the_family_is_there() -> None:
    assert list(SIZES) == list(TABLE)
    assert all(size.vision.out == size.config.hidden for size in SIZES.values())


def test_mtp_is_counted_apart() -> None:
    config = SIZES["Qwen3.5-35B-A3B"].config
    with_mtp, without = parameters(config), parameters(replace(config, mtp_layers=0))
    assert with_mtp.text == without.text
    assert without.mtp == 0
