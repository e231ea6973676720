"""Endpoints of this server's own: what it is doing, and an end to the thinking of a reply."""

from dataclasses import asdict
from typing import Any

from qwen35_local import __version__
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.machine import memory_bytes, status_bytes
from qwen35_local.fields import TEXT
from qwen35_local.server.body import Body
from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.service import Service

_SHOWN = ("temperature", "top_k", "top_p", "min_p", "presence_penalty", "repetition_penalty")


def answer_now(body: Body, service: Service) -> bytes:
    """`POST /v1/qwen35/answer-now`: `id` of a chat completion that is being written. Raises Refused."""
    wanted = body.need("id", TEXT)
    found = next((exchange for exchange in list(service.running) if exchange.id == wanted), None) if wanted else None
    if found is None:
        raise Refused(404, "no reply of this id is being written; it may be over.", param="id", code="not_found")
    found.answer_now()
    return encoded({"id": wanted, "answer_now": True})


def status(service: Service) -> dict[str, Any]:
    """`GET /v1/qwen35/status`: without a word of what was said."""
    engine, counters = service.engine, service.counters
    return {
        "model": service.name,
        "summary": engine.summary,
        "version": __version__,
        "context_tokens": engine.context_tokens,
        "thinks_by_default": engine.thinks_by_default,
        "sampling": {mode: _sampling(service, mode == "thinking") for mode in ("thinking", "instruct")},
        "slots": service.slots,
        "running": len(service.running),
        "waiting": engine.n_waiting,
        "memory": _memory(engine) if isinstance(engine, Engine) else None,  # of a model on this machine
        "replies": counters.replies.total(),
        "prompt_tokens": counters.prompt_tokens,
        "reused_tokens": counters.reused_tokens,
        "generated_tokens": counters.generated_tokens,
        "seconds": counters.seconds,
    }


def _memory(engine: Engine) -> dict[str, int]:
    """In bytes."""
    free, total = memory_bytes()
    cache = engine.cache
    return {
        "process": status_bytes("VmRSS"),
        "weights": engine.model.weight_bytes,
        "snapshots": cache.n_bytes,
        "snapshots_most": cache.budget_bytes,
        "disk": 0 if cache.disk is None else cache.disk.n_bytes,
        "free": free,
        "total": total,
    }


def _sampling(service: Service, thinks: bool) -> dict[str, Any]:
    settings = asdict(service.engine.preset(thinking=thinks))
    return {name: settings[name] for name in _SHOWN}
