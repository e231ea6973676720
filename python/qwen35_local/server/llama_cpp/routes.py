"""Where the endpoints of llama.cpp's server are."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen35_local.server.exchange import Answering
from qwen35_local.server.json_text import encoded
from qwen35_local.server.llama_cpp import state
from qwen35_local.server.llama_cpp.completion import read_completion
from qwen35_local.server.llama_cpp.text import apply_template, detokenize, tokenize, tokenizer_info
from qwen35_local.server.service import Service
from qwen35_local.server.wire import JSON

PATHS = ("/completion", "/tokenize", "/detokenize", "/apply-template", "/props", "/slots", "/metrics", "/infill")


def routes(service: Service) -> list[Route]:
    async def props(request: Request) -> Response:
        return _json(state.props(service))

    async def slots(request: Request) -> Response:
        return _json(state.slots(service))

    async def metrics(request: Request) -> Response:
        return Response(state.metrics(service), media_type=state.METRICS_TYPE)

    async def info(request: Request) -> Response:
        return _json(tokenizer_info(service))

    return [
        Route("/props", props),
        Route("/slots", slots),
        Route("/metrics", metrics),
        Route("/completion", Answering(service, read_completion), methods=["POST"]),
        Route("/tokenizer_info", info),
        Route("/tokenize", Answering(service, tokenize), methods=["POST"]),
        Route("/detokenize", Answering(service, detokenize), methods=["POST"]),
        Route("/apply-template", Answering(service, apply_template), methods=["POST"]),
    ]


def _json(value: Any) -> Response:
    return Response(encoded(value), media_type=JSON)
