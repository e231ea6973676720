"""The golden prompts, the official templates, and Jinja renderings of those."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from qwen35_local.chat import jinja_worker

GOLDEN = Path(__file__).parents[1] / "golden/templates"
FILES = {"qwen3.5": "Qwen3.5-4B.jinja", "qwen3.6": "Qwen3.6-27B.jinja", "qwen3.8": "Qwen3.8-27B.jinja"}

CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "cases.json").read_text())

FOREIGN = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and '</think>' in message.content %}
        {{- message.content.split('</think>')[-1] | trim }}
    {%- else %}
        {{- message.content | trim }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""A template of no known model."""


@cache
def expected(variant: str) -> dict[str, str | None]:
    """Case name to prompt; None where the official template refuses."""
    golden: dict[str, str | None] = json.loads((GOLDEN / f"{variant}.json").read_text())["expected"]
    return golden


def official_text(variant: str) -> str:
    return (GOLDEN / FILES[variant]).read_text()


@cache
def _compiled(template: str) -> Any:
    return jinja_worker.environment().from_string(template)


def by_jinja(template: str, variables: dict[str, Any]) -> str:
    return str(_compiled(template).render(variables))
