"""What the name of a GGUF file says: its type, which part of a split model it is, and whether it is a model at all."""

import re
from dataclasses import dataclass

# As publishers write them: Q4_K_M, IQ4_XS, UD-Q4_K_XL, MXFP4_MOE, BF16; never as a piece of a longer word.
_TYPE = r"(?:UD-)?I?Q[1-9](?:_[A-Z0-9]+)+|TQ[12]_0|(?:MX|NV)FP4(?:_MOE)?|BF16|FP?16|FP?32"
_TYPE_INSIDE = re.compile(rf"(?<![A-Za-z0-9])(?:{_TYPE})(?![A-Za-z0-9_])", re.IGNORECASE)
_TYPE_ALONE = re.compile(_TYPE, re.IGNORECASE)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.IGNORECASE | re.DOTALL)

# Files that go beside a model: image encoders, adapters, statistics for quantisers, vocabularies without weights.
_BESIDE = re.compile(r"(?:^|[^a-z0-9])(?:mmproj|lora|adapter|imatrix|ggml-vocab)(?:$|[^a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Number `number` of the `count` files of a split model, counted from 1; `stem` is what their names share."""

    stem: str
    number: int
    count: int


def type_in(name: str) -> str | None:
    """The last type in a file's name, in capitals, as in "Qwen3.5-9B-UD-Q4_K_XL.gguf"; None when there is none."""
    found = _TYPE_INSIDE.findall(name)
    return plain_type(found[-1]) if found else None


def plain_type(word: str) -> str | None:
    """The type that a whole word is ("q4_k_m" is "Q4_K_M"), or None."""
    if _TYPE_ALONE.fullmatch(word) is None:
        return None
    return word.upper().replace("FP16", "F16").replace("FP32", "F32")


def part(name: str) -> Part | None:
    """None for the name of a whole file. A number beyond the count is no part."""
    found = _PART.fullmatch(name)
    if found is None or not 1 <= int(found["number"]) <= int(found["count"]):
        return None
    return Part(found["stem"], int(found["number"]), int(found["count"]))


def is_model(name: str) -> bool:
    """A GGUF whose name does not say that it is something that goes beside a model."""
    return name.lower().endswith(".gguf") and _BESIDE.search(name) is None
