"""Sizes and counts as people read them."""

import pytest

from qwen35_local.units import counted, file_size


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_500, "1.50 kB"),
        (7_340_032, "7.34 MB"),
        (5_680_522_464, "5.68 GB"),
    ],
)
def test_a_size_always_shows_something(n_bytes: int, shown: str) -> None:
    assert file_size(n_bytes) == shown


def test_one_is_not_many() -> None:
    assert [counted(n, "tensor") for n in (0, 1, 2, 1234)] == ["0 tensors", "1 tensor", "2 tensors", "1,234 tensors"]
