"""Where the page is: `/`, its parts, and its own endpoints."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen35_local.server.exchange import Answering
from qwen35_local.server.json_text import encoded
from qwen35_local.server.page.own import answer_now, status
from qwen35_local.server.security import PAGE
from qwen35_local.server.service import Service
from qwen35_local.server.wire import JSON

_FOLDER = Path(__file__).parent / "site"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the files of the page runs in it, it reaches nothing but this server, and no text becomes markup
# (https://www.w3.org/TR/CSP3, https://www.w3.org/TR/trusted-types).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def routes(service: Service) -> list[Route]:
    files = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=_TYPES[Path(name).suffix], headers=_HEADERS)

    async def state(request: Request) -> Response:
        return Response(encoded(status(service)), media_type=JSON)

    return [
        Route("/", page),
        Route(PAGE + "{name}", page),
        Route("/v1/qwen35/status", state),
        Route("/v1/qwen35/answer-now", Answering(service, answer_now), methods=["POST"]),
    ]
