"""Errors in Ollama's words: one sentence."""

from typing import Any

from qwen35_local.server.errors import Refused


def error_body(refused: Refused) -> dict[str, Any]:
    """The body of an answer that is an error, and the last line of a stream that fails."""
    return {"error": refused.message}
