"""A GGUF written again with other names, keys, types or fewer tensors."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Kind = gguf.GGUFValueType


def rewrite(
    source: Path,
    target: Path,
    *,
    name: Callable[[str], str | None] = lambda n: n,
    put: Mapping[str, Any] | None = None,
    retype: Mapping[str, str] | None = None,
    add: Mapping[str, Any] | None = None,
) -> Path:
    """`name` gives a tensor's new name, None leaves it out; `put` sets keys (int, str, bool or a list of int), None
    drops one; `retype` fills tensors with zero bytes of another type; `add` has tensors of F32."""
    reader = gguf.GGUFReader(source)
    put = dict(put or {})
    architecture = put.pop("general.architecture", reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture" and key not in put:
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == Kind.ARRAY else None)
    for key, value in put.items():
        if isinstance(value, list):
            writer.add_key_value(key, value, Kind.ARRAY, Kind.INT32)
        elif value is not None:
            kinds = {bool: Kind.BOOL, int: Kind.UINT32, str: Kind.STRING}
            writer.add_key_value(key, value, kinds[type(value)])
    for tensor in reader.tensors:
        new = name(tensor.name)
        if new is None:
            continue
        if tensor.name in (retype or {}):
            dtype = gguf.GGMLQuantizationType[(retype or {})[tensor.name]]
            block, n_bytes = gguf.GGML_QUANT_SIZES[dtype]
            shape = [int(n) for n in reversed(tensor.shape)]
            writer.add_tensor(new, np.zeros([*shape[:-1], shape[-1] // block * n_bytes], np.uint8), raw_dtype=dtype)
        else:
            writer.add_tensor(new, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    for new, values in (add or {}).items():
        writer.add_tensor(new, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
