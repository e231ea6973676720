"""The endpoints of OpenAI's API."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen35_local.server.body import Body
from qwen35_local.server.dialect import Dialect
from qwen35_local.server.errors import Refused
from qwen35_local.server.exchange import Answering
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai import chat, completions, models, responses
from qwen35_local.server.service import Service

_ABSENT = (
    "embeddings",
    "rerank",
    "moderations",
    "images/generations",
    "images/edits",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "files",
    "batches",
    "fine_tuning/jobs",
    "assistants",
    "threads",
    "vector_stores",
    "conversations",
)


def routes(service: Service) -> list[Route]:
    def answering(path: str, dialect: Dialect) -> list[Route]:
        return [Route(start + path, Answering(service, dialect), methods=["POST"]) for start in ("/v1", "")]

    return [
        *answering("/chat/completions", chat.read),
        *answering("/chat/completions/input_tokens", _count),
        *answering("/completions", completions.read),
        *responses.routes(service),
        *models.routes(service),
        *(Route(f"/v1/{name}", _absent, methods=["GET", "POST"]) for name in _ABSENT),
    ]


def _count(body: Body, service: Service) -> bytes:
    request = chat.read_request(body, service).request
    return encoded({"object": "chat.completion.input_tokens", "input_tokens": service.engine.count(request)})


async def _absent(request: Request) -> Response:
    raise Refused(
        501, f"{request.url.path} is not offered: this server writes text with one model.", code="not_implemented"
    )
