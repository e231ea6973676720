"""Errors in the words of llama.cpp's server."""

from typing import Any

from qwen35_local.server.errors import Refused

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


def error_body(refused: Refused) -> dict[str, Any]:
    """The body of an answer that is an error."""
    kind = _TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    return {"error": {"code": refused.status, "message": refused.message, "type": kind}}
