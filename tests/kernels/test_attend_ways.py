"""Every way through attend that a device may have, by rows, heads, spans and pages that are packed or not: with few
rows of few heads, so that `make races` ends with them."""

import pytest
from kernel_cases import REFERENCE, agree, device_of
from test_attend import Case


def check(name, kv, case, first, counts):
    """Calls of so many rows from `first` on."""
    devices = device_of(name, 1), device_of(REFERENCE, 1)
    caches = [case.cache(device, kv, first + max(counts)) for device in devices]
    for count in counts:
        found, expected = (case.attend(*on, first, [count]) for on in zip(devices, caches, strict=True))
        assert agree(name, found, expected, "fp32" if kv in ("f32", "f16") else "quantised"), count


@pytest.mark.parametrize("kv", ["f32", "f16", "q8", "q4", "k8v4"])
@pytest.mark.parametrize("first", [7, 1020], ids=["one page", "packed pages"])
def test_rows_and_pages(other_name, kv, first):
    check(other_name, kv, Case(31, first + 17, 4, 1, 32), first, [1, 4, 8, 17])


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 1, 16)], ids=["many blocks", "a wide group"])
def test_heads_and_spans(other_name, shape):
    """Where there are blocks of threads enough without, one takes all spans of its queries."""
    check(other_name, "f16", Case(32, 301, *shape), 300, [1])
