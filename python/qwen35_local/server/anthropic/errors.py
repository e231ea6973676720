"""Errors in Anthropic's words (https://docs.claude.com/en/api/errors)."""

import re
from typing import Any

from qwen35_local.server.errors import Refused

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_LENGTHS = re.compile(r"the prompt is (\d+) tokens and the context (\d+)")


def error_body(refused: Refused) -> dict[str, Any]:
    """The body of an answer that is an error, and the data of an `error` event."""
    kind = _TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": _message(refused)}, "request_id": None}


def _message(refused: Refused) -> str:
    """Agents shorten a conversation when they read that it is too long, in these words."""
    lengths = _LENGTHS.match(refused.message)
    if lengths is None:
        return refused.message
    return f"prompt is too long: {lengths[1]} tokens > {lengths[2]} maximum; shorten the prompt."
