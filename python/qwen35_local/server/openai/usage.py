"""What replies took, as OpenAI's API tells it."""

from collections.abc import Mapping
from typing import Any

from qwen35_local.engine.reply import Usage


def usage_body(usages: Mapping[int, Usage], n: int) -> dict[str, Any]:
    """`usages` by choice. A prompt has `n` choices in a row and is counted once."""
    prompts = [usage for choice, usage in usages.items() if choice % n == 0]
    prompt = sum(usage.prompt_tokens for usage in prompts)
    generated = sum(usage.generated_tokens for usage in usages.values())
    accepted = sum(usage.accepted_tokens for usage in usages.values())
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(usage.reused_tokens for usage in prompts)},
        "completion_tokens_details": {
            "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages.values()),
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": sum(usage.drafted_tokens for usage in usages.values()) - accepted,
        },
    }
