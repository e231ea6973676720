"""What is known of a server: which one it is, the models it has, and what it takes beyond OpenAI's API."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from qwen35_local.errors import FormatError, InputError, RemoteError
from qwen35_local.fields import OBJECT, OBJECTS, TEXT, Fields, integer

Kind: TypeAlias = Literal["llama.cpp", "vllm", "other"]

_OWNERS: dict[str, Kind] = {"llamacpp": "llama.cpp", "qwen35-local": "llama.cpp", "vllm": "vllm", "sglang": "vllm"}
"""By `owned_by` of a model; in what is used here this program's own server follows llama.cpp's, SGLang's vLLM's."""

_TOKENS = integer(1, 2**31 - 1)


@dataclass(frozen=True)
class RemoteModel:
    """A model that a server has. `context_tokens` 0: not said."""

    name: str
    kind: Kind = "other"
    context_tokens: int = 0


def choose(listed: Any, name: str | None, server: str) -> RemoteModel:
    """The model to ask: `name`, or the only one that `/models` lists. Raises InputError, RemoteError."""
    try:
        models = [_model(entry) for entry in Fields(listed if isinstance(listed, dict) else {}).need("data", OBJECTS)]
    except FormatError as error:
        raise RemoteError(f"{server}/models is no list of models: {error}") from None
    names = [model.name for model in models]
    if name is not None and name not in names:
        raise InputError(f"--model {name[:100]!r}: {server} has {_listed(names)}.")
    if name is None and len(models) != 1:
        raise InputError(f"{server} has {_listed(names)}; choose one with --model NAME.")
    return models[0] if name is None else models[names.index(name)]


def _model(entry: dict[str, object]) -> RemoteModel:
    fields = Fields(entry, "data.")
    meta = Fields(fields.find("meta", OBJECT, {}), "data.meta.")
    context = fields.find("max_model_len", _TOKENS) or meta.find("n_ctx", _TOKENS) or meta.find("n_ctx_train", _TOKENS)
    owner = entry.get("owned_by")
    return RemoteModel(fields.need("id", TEXT), _OWNERS.get(str(owner), "other"), context or 0)


def _listed(names: list[str]) -> str:
    if not names:
        return "no model"
    shown = ", ".join(name[:100] for name in names[:8])
    return f"the models {shown}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
