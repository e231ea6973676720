"""The formats in which keys and values are kept."""

from typing import Literal, TypeAlias

KvFormat: TypeAlias = Literal["f32", "f16", "q8", "k8v4", "q4"]
"""f32, f16: as they are. q8, q4: in blocks of 8 and 4 bits. k8v4: keys in 8 bits, values in 4."""

KvChoice: TypeAlias = KvFormat | Literal["auto"]
"""A format, or the widest one that fits into memory."""
