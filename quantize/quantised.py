"""Whether a checkpoint is quantised is what its tensors say; configurations of fine-tunes are often stale about it."""

from dataclasses import replace

from qwen35_local.errors import FormatError
from qwen35_local.quantize import fp8
from qwen35_local.quantize.rows import FLOATS, Entry


def attach_scales(entries: dict[str, Entry], scales: dict[str, Entry]) -> None:
    """Gives every FP8 tensor its scales. Raises FormatError for scales that belong to nothing."""
    for canonical, scale in scales.items():
        entry = entries.get(canonical)
        if entry is None or entry.dtype != fp8.DTYPE:
            kind = "missing" if entry is None else f"{entry.dtype} and not {fp8.DTYPE}"
            raise FormatError(
                f"{scale.path}: {scale.name} holds the scales of a tensor that is {kind}; it was converted in part. "
                "Download the weights again."
            )
        shape = fp8.scale_shape(entry.shape)
        if len(entry.shape) < 2 or scale.shape != shape or scale.dtype not in FLOATS:
            raise FormatError(
                f"{scale.path}: {scale.name} is {scale.dtype} {list(scale.shape)}; expected F32 or BF16 {list(shape)}, "
                f"a scale for each {fp8.BLOCK} x {fp8.BLOCK} block of {entry.name} {list(entry.shape)}."
            )
        entries[canonical] = replace(entry, scales=scale)


def check(entries: dict[str, Entry], config: dict[str, object], warnings: list[str]) -> None:
    """Raises FormatError for weights in types that cannot be read."""
    method = _method(config)
    packed = next((e for e in entries.values() if e.dtype not in FLOATS and e.scales is None), None)
    if packed is not None and packed.dtype == "F64":
        raise FormatError(f"{packed.path}: tensor {packed.name} is F64; save the checkpoint again in F32, F16 or BF16.")
    if packed is not None:
        lacks = f" without {packed.name}{fp8.SCALE_SUFFIX}" if packed.dtype == fp8.DTYPE else ""
        how = f" ({method})" if method else ""
        raise FormatError(
            f"{packed.path}: tensor {packed.name} is {packed.dtype}{lacks}: the checkpoint is already quantised{how}; "
            "F32, F16, BF16 and block-scaled FP8 can be converted. Start from the unquantised checkpoint."
        )
    scaled = sum(entry.scales is not None for entry in entries.values())
    if scaled:
        warnings.append(
            f"{scaled} weights are FP8 with a scale per {fp8.BLOCK} x {fp8.BLOCK} block: already rounded once; a BF16 "
            "checkpoint of the model gives a more exact file"
        )
    elif method:
        warnings.append(
            f"config.json says that the weights are quantised ({method}); they are not, and are converted as they are"
        )


def _method(config: dict[str, object]) -> str:
    """How the weights are quantised by config.json, empty when it does not say that they are."""
    for scope in (config, config.get("text_config")):
        for key in ("quantization_config", "quantization", "compression_config"):
            method = scope.get(key) if isinstance(scope, dict) else None
            if method:
                kind = method.get("quant_method", key) if isinstance(method, dict) else method
                return str(kind)[:40]
    return ""
