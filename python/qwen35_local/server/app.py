"""The application: which path is answered by what."""

from collections.abc import Callable
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from qwen35_local.server.anthropic import errors as anthropic_errors
from qwen35_local.server.anthropic import routes as anthropic_routes
from qwen35_local.server.dialect import ErrorShape
from qwen35_local.server.front import Front
from qwen35_local.server.json_text import encoded
from qwen35_local.server.llama_cpp import errors as llama_cpp_errors
from qwen35_local.server.llama_cpp import routes as llama_cpp_routes
from qwen35_local.server.ollama import errors as ollama_errors
from qwen35_local.server.ollama import routes as ollama_routes
from qwen35_local.server.openai import routes as openai_routes
from qwen35_local.server.openai.errors import error_body
from qwen35_local.server.page import routes as page_routes
from qwen35_local.server.security import Guard
from qwen35_local.server.service import Service
from qwen35_local.server.wire import JSON

Routes: TypeAlias = Callable[[Service], list[Route]]

ROUTES: list[Routes] = [
    openai_routes.routes,
    anthropic_routes.routes,
    ollama_routes.routes,
    llama_cpp_routes.routes,
    page_routes.routes,
]
"""Of each dialect, and of the page."""

SHAPES: list[tuple[str, ErrorShape]] = [
    (anthropic_routes.PATH, anthropic_errors.error_body),
    (ollama_routes.PATH, ollama_errors.error_body),
    ("/completions", error_body),  # of OpenAI's API, as llama.cpp too has it
    *((path, llama_cpp_errors.error_body) for path in llama_cpp_routes.PATHS),
    ("", error_body),
]
"""How errors look below a path; the first that fits."""


def application(service: Service, guard: Guard) -> ASGIApp:
    """The ASGI application of the server."""

    async def health(request: Request) -> Response:
        is_ready = not service.is_closing
        body: dict[str, Any] = {"status": "ok" if is_ready else "closing"}
        return Response(encoded(body), 200 if is_ready else 503, media_type=JSON)

    routes = [Route("/health", health), Route("/v1/health", health)]
    for of_dialect in ROUTES:
        routes += of_dialect(service)
    router = Router(routes, redirect_slashes=False, default=_nothing_here)
    return Front(router, service, guard, SHAPES)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)
