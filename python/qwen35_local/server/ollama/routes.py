"""Where Ollama's API is."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen35_local.server.errors import Refused
from qwen35_local.server.exchange import Answering
from qwen35_local.server.json_text import encoded
from qwen35_local.server.ollama.catalogue import VERSION, Catalogue
from qwen35_local.server.ollama.request import read_chat, read_generate
from qwen35_local.server.service import Service
from qwen35_local.server.wire import JSON

PATH = "/api/"

_UNAVAILABLE = {
    "pull": ["POST"],
    "push": ["POST"],
    "create": ["POST"],
    "copy": ["POST"],
    "delete": ["DELETE"],
    "embed": ["POST"],
    "embeddings": ["POST"],
}


def routes(service: Service) -> list[Route]:
    catalogue = Catalogue(service)

    async def tags(request: Request) -> Response:
        return _json(catalogue.tags())

    async def running(request: Request) -> Response:
        return _json(catalogue.running())

    async def version(request: Request) -> Response:
        return _json({"version": VERSION})

    async def unavailable(request: Request) -> Response:
        raise Refused(501, f"{request.url.path} is not supported: {_instead(request.url.path)}")

    return [
        Route("/api/chat", Answering(service, read_chat), methods=["POST"]),
        Route("/api/generate", Answering(service, read_generate), methods=["POST"]),
        Route("/api/show", Answering(service, catalogue.show), methods=["POST"]),
        Route("/api/tags", tags),
        Route("/api/ps", running),
        Route("/api/version", version),
        *(Route(f"/api/{name}", unavailable, methods=methods) for name, methods in _UNAVAILABLE.items()),
    ]


def _instead(path: str) -> str:
    if "embed" in path:
        return "this family of models makes no embeddings."
    return "this server has the one model that it was started with; `qwen35 pull`, `list` and `rm` are for files."


def _json(value: Any) -> Response:
    return Response(encoded(value), media_type=JSON)
