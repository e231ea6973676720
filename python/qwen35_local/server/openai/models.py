"""`/v1/models`: the one model, and what clients look for to know what it can do."""

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.service import Service
from qwen35_local.server.wire import JSON


def described(service: Service) -> dict[str, Any]:
    """OpenAI's fields, Anthropic's, llama.cpp's `meta` and modalities, and vLLM's `max_model_len`."""
    engine = service.engine
    return {
        "id": service.name,
        "object": "model",
        "created": service.started_at,
        "owned_by": "qwen35-local",
        "type": "model",
        "display_name": service.name,
        "created_at": datetime.fromtimestamp(service.started_at, UTC).isoformat().replace("+00:00", "Z"),
        "max_model_len": engine.context_tokens,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {
            "n_vocab": engine.tokenizer.vocab_size,
            "n_ctx": engine.context_tokens,
            "size": engine.model.weight_bytes,
        },
    }


def routes(service: Service) -> list[Route]:
    async def listed(request: Request) -> Response:
        model = described(service)
        capabilities = ["completion", "tools", "thinking"]
        brief = {"name": service.name, "model": service.name, "type": "model", "capabilities": capabilities}
        page = {"first_id": service.name, "last_id": service.name, "has_more": False}
        body = {"object": "list", "data": [model], "models": [brief], **page}
        return Response(encoded(body), media_type=JSON)

    async def one(request: Request) -> Response:
        name = request.path_params["name"]
        if name != service.name:
            raise Refused(
                404,
                f"there is no model {name[:200]!a}; this server has {service.name!a}.",
                param="model",
                code="model_not_found",
            )
        return Response(encoded(described(service)), media_type=JSON)

    return [
        *(Route(path, listed) for path in ("/v1/models", "/models")),
        *(Route(f"{path}/{{name:path}}", one) for path in ("/v1/models", "/models")),
    ]
