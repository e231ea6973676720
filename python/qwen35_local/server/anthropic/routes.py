"""Where Anthropic's API is."""

from starlette.routing import Route

from qwen35_local.server.anthropic.request import count_tokens, read_message
from qwen35_local.server.exchange import Answering
from qwen35_local.server.service import Service

PATH = "/v1/messages"


def routes(service: Service) -> list[Route]:
    return [
        Route(PATH, Answering(service, read_message), methods=["POST"]),
        Route(f"{PATH}/count_tokens", Answering(service, count_tokens), methods=["POST"]),
    ]
