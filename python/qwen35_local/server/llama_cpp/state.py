"""`/props`, `/slots` and `/metrics`: what the server is and does, without a word of what was said."""

from collections.abc import Iterator, Sequence
from typing import Any

from qwen35_local import __version__
from qwen35_local.engine.face import Face
from qwen35_local.server.llama_cpp.text import end_of_turn, template_capabilities
from qwen35_local.server.service import Service

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def props(service: Service) -> dict[str, Any]:
    engine = service.engine
    tokenizer = engine.tokenizer
    return {
        "default_generation_settings": {"n_ctx": engine.context_tokens, "params": _defaults(engine)},
        "total_slots": service.slots,
        "model_alias": service.name,
        "model_path": service.name,
        "modalities": {"vision": False, "video": False, "audio": False},
        "chat_template": engine.template.text,
        "chat_template_caps": template_capabilities(engine),
        "bos_token": "" if tokenizer.bos_id is None else tokenizer.decode([tokenizer.bos_id]),
        "eos_token": end_of_turn(tokenizer),
        "build_info": f"qwen35-local {__version__}",
        "is_sleeping": False,
    }


def _defaults(engine: Face) -> dict[str, Any]:
    settings = engine.preset(thinking=engine.thinks_by_default)
    return {
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "repeat_penalty": settings.repetition_penalty,
        "repeat_last_n": settings.penalty_last_n,
        "presence_penalty": settings.presence_penalty,
        "frequency_penalty": settings.frequency_penalty,
        "seed": -1,
        "n_predict": -1,
        "speculative.n_max": engine.model.drafts,
        "speculative.n_min": 0,
        "speculative.p_min": 0.0,
        "stop": [],
    }


def slots(service: Service) -> list[dict[str, Any]]:
    """`n_past`: rows of context that a slot's conversation holds; replies that wait have no slot."""
    held = [task.n_rows for task in service.engine.running]
    return [
        {
            "id": slot,
            "n_ctx": service.engine.context_tokens,
            "speculative": service.engine.model.drafts > 0,
            "is_processing": slot < len(held),
            "n_past": held[slot] if slot < len(held) else 0,
        }
        for slot in range(service.slots)
    ]


def metrics(service: Service) -> str:
    """Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats)."""
    return "".join(f"{line}\n" for family in _families(service) for line in family)


def _families(service: Service) -> Iterator[list[str]]:
    counters, engine = service.counters, service.engine
    totals = [
        ("prompt_tokens", "Tokens of the prompts of finished replies.", counters.prompt_tokens),
        ("reused_prompt_tokens", "Of these, tokens that had been read before.", counters.reused_tokens),
        ("generated_tokens", "Tokens of finished replies, thinking included.", counters.generated_tokens),
        ("drafted_tokens", "Tokens that were drafted for a pass to verify.", counters.drafted_tokens),
        ("accepted_tokens", "Of these, tokens that became part of a reply.", counters.accepted_tokens),
        ("reply_seconds", "Time from the start of a reply to its end, of all of them.", counters.seconds),
        ("disconnects", "Requests that ended because the client left.", counters.disconnects),
        ("slow_readers", "Replies that ended because the client read too slowly.", counters.slow_readers),
    ]
    gauges = [
        ("requests_running", "Requests that are being answered, or wait.", len(service.running)),
        ("slots_busy", "Conversations that are at work.", len(engine.running)),
        ("replies_waiting", "Replies that wait for a slot.", engine.n_waiting),
        ("slots", "Replies that are written at a time, at most.", service.slots),
        ("context_tokens", "Tokens that a prompt and its reply may have together.", engine.context_tokens),
        ("start_time_seconds", "When the server started, in seconds since 1970.", service.started_at),
    ]
    for name, text, value in totals:
        yield _family(f"{name}_total", text, "counter", [("", value)])
    requests = [(f'{{status="{status}"}}', count) for status, count in sorted(counters.requests.items())]
    yield _family("requests_total", "Requests, by the status of the answer.", "counter", requests)
    replies = [(f'{{reason="{reason}"}}', count) for reason, count in sorted(counters.replies.items())]
    yield _family("replies_total", "Finished replies, by what ended them.", "counter", replies)
    for name, text, value in gauges:
        yield _family(name, text, "gauge", [("", value)])


def _family(name: str, text: str, kind: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    head = [f"# HELP qwen35_{name} {text}", f"# TYPE qwen35_{name} {kind}"]
    return head + [f"qwen35_{name}{labels} {value}" for labels, value in samples]
