"""Sizes and counts as people write and read them."""

import re

from qwen35_local.errors import InputError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)(B?)")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(option: str, text: str) -> int:
    """ "24G" and "24GiB" are 24 x 2^30 bytes, "24GB" 24 x 10^9. Raises InputError."""
    found = _SIZE.fullmatch(text.strip().upper().replace("I", "i"))
    number = float(found[1]) if found else 0.0
    base = 1000 if found and found[4] and found[2] and not found[3] else 1024
    n_bytes = number * base ** _POWERS[found[2]] if found else 0
    if found is None or not 1 <= n_bytes < 1 << 53 or (found[3] and not found[2]):
        raise InputError(f"{option} is {text!r}; expected a size of a byte or more, as in 24G, 24GiB, 24GB or 24000M")
    return int(n_bytes)


def spelled(n_bytes: int) -> str:
    """As `parse_bytes` reads it."""
    return f"{n_bytes >> 30}G" if n_bytes % (1 << 30) == 0 else str(n_bytes)


def parse_tokens(option: str, text: str) -> int:
    """ "262144", "256k" (x 1024) or "1M" (x 1,000,000). Raises InputError."""
    found = re.fullmatch(r"([0-9]{1,9})([kKmM]?)", text.strip().replace(",", "").replace("_", ""))
    tokens = int(found[1]) * {"": 1, "k": 1024, "m": 1_000_000}[found[2].lower()] if found else 0
    if tokens < 1:
        raise InputError(f"{option} is {text!r}; expected a token or more, as in 262144, 256k or 1M")
    return tokens


def size(n_bytes: int) -> str:
    """Memory, in the powers of two it is sold in."""
    return f"{n_bytes / 2**30:,.2f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / 2**20:,.1f} MiB"


def file_size(n_bytes: int) -> str:
    """Files, in powers of ten as download pages count them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:,.2f} {unit}"
    return counted(n_bytes, "byte")


def counted(n: int, thing: str) -> str:
    """As in "1 tensor", "2 tensors"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"
