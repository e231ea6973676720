"""Writes the golden prompts of this folder: `python tests/golden/templates/make_templates.py`.

The official Jinja templates are rendered by transformers (5.23.0), the reference implementation of the family.
`null` stands for "the template refuses". The templates of 0.8B and 2B were not at hand; theirs is that of 4B with the
guard of the generation prompt inverted, the one difference known (docs/architecture.md 8.7).
"""

import json
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
SOURCES = {
    "qwen3.5": "Qwen3.5-4B.jinja",
    "qwen3.5-small": "Qwen3.5-4B.jinja",
    "qwen3.6": "Qwen3.6-27B.jinja",
    "qwen3.8": "Qwen3.8-27B.jinja",
}
THINKS = "{%- if enable_thinking is defined and enable_thinking is false %}"
BLOCKS = ("{{- '<think>\\n\\n</think>\\n\\n' }}", "{{- '<think>\\n' }}")


def small_model_template(text: str) -> str:
    """The 4B template with thinking off unless asked for."""
    head, tail = text.split(THINKS)
    off, on = BLOCKS
    swapped = tail.replace(off, "OFF").replace(on, off).replace("OFF", on)
    return head + "{%- if enable_thinking is defined and enable_thinking is true %}" + swapped


def expected(template: str, case: dict[str, Any]) -> str | None:
    try:
        rendered, _ = render_jinja_template(
            [case["messages"]], tools=case["tools"] or None, chat_template=template, **case["options"]
        )
    except (jinja2.TemplateError, TypeError):
        return None
    return str(rendered[0])


def main() -> None:
    cases = json.loads((HERE / "cases.json").read_text())
    for variant, file in SOURCES.items():
        text = (HERE / file).read_text()
        source = file
        if variant == "qwen3.5-small":
            text, source = small_model_template(text), f"{file}, guard inverted"
        golden = {
            "source": source,
            "sha256": sha256(text.encode()).hexdigest(),
            "command": "python tests/golden/templates/make_templates.py",
            "date": date.today().isoformat(),
            "expected": {name: expected(text, case) for name, case in cases.items()},
        }
        (HERE / f"{variant}.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
