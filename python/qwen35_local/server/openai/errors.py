"""Errors as OpenAI's API has them."""

from typing import Any

from qwen35_local.server.errors import Refused

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(refused: Refused) -> dict[str, Any]:
    """`type` goes with the status."""
    kind = _TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}}
