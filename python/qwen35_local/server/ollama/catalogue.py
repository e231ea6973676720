"""What Ollama's clients ask about models: the one that is loaded."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from qwen35_local.engine.face import Face
from qwen35_local.fields import TEXT
from qwen35_local.quantize.recipe import FILE_TYPES
from qwen35_local.server.body import Body
from qwen35_local.server.json_text import encoded
from qwen35_local.server.ollama.encoder import stamp
from qwen35_local.server.service import Service

VERSION = "0.13.0"
"""The version of Ollama whose API this follows; clients refuse what is older than they know."""

CAPABILITIES = ["completion", "tools", "thinking"]
_FOREVER = "9999-12-31T23:59:59Z"


class Catalogue:
    """Made once of the model's metadata, of which the vocabulary is not kept."""

    def __init__(self, service: Service) -> None:
        engine = service.engine
        self._service = service
        metadata = engine.model.metadata
        self._digest = sha256(engine.identity.encode()).hexdigest()
        self._details = _details(metadata)
        self._info = _plain(metadata, engine)

    def tags(self) -> dict[str, Any]:
        return {"models": [self._listed() | {"modified_at": stamp(self._service.started_at)}]}

    def running(self) -> dict[str, Any]:
        engine = self._service.engine
        on_card = 0 if engine.model.device.startswith("cpu") else engine.model.weight_bytes
        more = {"expires_at": _FOREVER, "size_vram": on_card, "context_length": engine.context_tokens}
        return {"models": [self._listed() | more]}

    def show(self, body: Body, service: Service) -> bytes:
        """`POST /api/show`, of whatever name: there is one model. Raises Refused."""
        if not (body.find("model", TEXT) or body.find("name", TEXT)):
            raise body.refuse("model", "the name of a model")
        body.ignore("verbose")
        engine = service.engine
        parameters = _parameters(engine)
        return encoded(
            {
                "modelfile": f"FROM {service.name}\n",
                "parameters": parameters,
                "template": engine.template.text,
                "details": self._details,
                "model_info": self._info,
                "capabilities": CAPABILITIES,
                "modified_at": stamp(service.started_at),
            }
        )

    def _listed(self) -> dict[str, Any]:
        name, size = self._service.name, self._service.engine.model.weight_bytes
        return {"name": name, "model": name, "size": size, "digest": self._digest, "details": self._details}


def _details(metadata: Mapping[str, Any]) -> dict[str, Any]:
    family = str(metadata.get("general.architecture", ""))
    number = metadata.get("general.file_type")
    types = {entry.number: name for name, entry in FILE_TYPES.items()}
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": str(metadata.get("general.size_label", "")),
        "quantization_level": types.get(number, "mixed") if isinstance(number, int) else "mixed",
    }


def _plain(metadata: Mapping[str, Any], engine: Face) -> dict[str, Any]:
    """Without lists, as long as a vocabulary, and the template; the context is that of this server."""
    kept = {
        key: value
        for key, value in metadata.items()
        if isinstance(value, str | int | float) and key != "tokenizer.chat_template"
    }
    return kept | {f"{metadata.get('general.architecture')}.context_length": engine.context_tokens}


def _parameters(engine: Face) -> str:
    settings = engine.preset(thinking=engine.thinks_by_default)
    values = {
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "presence_penalty": settings.presence_penalty,
        "repeat_penalty": settings.repetition_penalty,
    }
    return "\n".join(f"{name:<30} {value:g}" for name, value in values.items())
