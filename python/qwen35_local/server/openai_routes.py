"""The endpoints of OpenAI's API."""

from starlette.routing import Route

from qwen35_local.server import openai_chat, openai_models
from qwen35_local.server.exchange import Answering
from qwen35_local.server.service import Service


def routes(service: Service) -> list[Route]:
    def answering(path: str, dialect: object) -> Route:
        return Route(path, Answering(service, dialect), methods=["POST"])  # type: ignore[arg-type]

    return [
        *(answering(f"{start}/chat/completions", openai_chat.read) for start in ("/v1", "")),
        *openai_models.routes(service),
    ]
