"""`/v1/responses`: created, looked up, forgotten, and counted."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen35_local.engine.reply import Done
from qwen35_local.fields import FLAG
from qwen35_local.server.body import Body
from qwen35_local.server.dialect import Asked
from qwen35_local.server.errors import Refused
from qwen35_local.server.exchange import Answering
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.responses_encoder import ResponseEncoder
from qwen35_local.server.openai.responses_request import read_request, unknown
from qwen35_local.server.openai.responses_store import Kept, ResponseStore
from qwen35_local.server.openai.sampling import read_user
from qwen35_local.server.service import Service
from qwen35_local.server.wire import JSON


def routes(service: Service) -> list[Route]:
    store = ResponseStore()

    def create(body: Body, service: Service) -> Asked:
        read = read_request(body, service, store)
        streams = body.find("stream", FLAG, False)
        options = body.object("stream_options")
        if options is not None:
            options.ignore("include_obfuscation", "include_usage")

        def keep(answer: dict[str, Any], done: Done) -> None:
            if read.is_kept:
                store.keep(answer, read.items, (*read.before, done.message), read.size)

        return Asked((read.request,), ResponseEncoder(service, read, keep), streams, read_user(body), param="input")

    def count(body: Body, service: Service) -> bytes:
        request = read_request(body, service, store).request
        return encoded({"object": "response.input_tokens", "input_tokens": service.engine.count(request)})

    async def found(request: Request) -> Response:
        body = kept_for(request).body
        return Response(await asyncio.to_thread(encoded, body), media_type=JSON)

    async def items(request: Request) -> Response:
        kept = kept_for(request)
        ordered = list(reversed(kept.items)) if request.query_params.get("order", "desc") == "desc" else kept.items
        body = {"object": "list", "data": ordered, "has_more": False, "first_id": None, "last_id": None}
        return Response(await asyncio.to_thread(encoded, body), media_type=JSON)

    async def forget(request: Request) -> Response:
        name = request.path_params["name"]
        if not store.forget(name):
            raise unknown(name, "response_id", 404)
        return Response(encoded({"id": name, "object": "response", "deleted": True}), media_type=JSON)

    async def cancel(request: Request) -> Response:
        raise Refused(400, "only background responses can be cancelled; this server has none: close the connection.")

    def kept_for(request: Request) -> Kept:
        name = request.path_params["name"]
        kept = store.find(name)
        if kept is None:
            raise unknown(name, "response_id", 404)
        return kept

    listed = []
    for start in ("/v1", ""):
        listed += [
            Route(f"{start}/responses", Answering(service, create), methods=["POST"]),
            Route(f"{start}/responses/input_tokens", Answering(service, count), methods=["POST"]),
            Route(f"{start}/responses/{{name}}", found, methods=["GET"]),
            Route(f"{start}/responses/{{name}}", forget, methods=["DELETE"]),
            Route(f"{start}/responses/{{name}}/input_items", items, methods=["GET"]),
            Route(f"{start}/responses/{{name}}/cancel", cancel, methods=["POST"]),
        ]
    return listed
