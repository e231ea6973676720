"""Every client's way to say how long the model is to think, as one setting."""

from dataclasses import dataclass

from qwen35_local.engine.face import Face
from qwen35_local.errors import InputError
from qwen35_local.fields import describe


@dataclass(frozen=True, slots=True)
class Thinking:
    """`is_on` None: as the model does by default. Thinking is closed after `budget_tokens`; None: when the model closes
    it. The fields are those of a request, `thinking` and `thinking_tokens`."""

    is_on: bool | None = None
    budget_tokens: int | None = None

    def with_switch(self, is_on: bool | None) -> "Thinking":
        """A switch that says on or off outranks an effort or a level, whose budget stays."""
        if is_on is None:
            return self
        return Thinking(is_on, self.budget_tokens if is_on else None)

    def with_budget(self, tokens: int | None) -> "Thinking":
        """A budget in tokens outranks that of an effort; 0 is no thinking, and a switch that is off stays off."""
        if tokens is None:
            return self
        if tokens == 0 or self.is_on is False:
            return OFF
        return Thinking(self.is_on, tokens)

    def of(self, engine: Face) -> bool:
        """Whether this model then thinks."""
        return engine.thinks_by_default if self.is_on is None else self.is_on


OFF = Thinking(False)
ON = Thinking(True)

EFFORTS = {
    "none": OFF,
    "minimal": OFF,
    "low": Thinking(True, 1024),
    "medium": Thinking(True, 8192),
    "high": ON,
    "xhigh": ON,
    "max": ON,
}
"""`reasoning_effort` of OpenAI's API, `output_config.effort` of Anthropic's, the levels of Ollama's `think`."""


def of_effort(value: object, where: str) -> Thinking:
    """What a word for an effort means. Raises InputError naming `where`."""
    if not isinstance(value, str) or value not in EFFORTS:
        raise InputError(f"{where}: expected one of {', '.join(EFFORTS)}, got {describe(value)}.")
    return EFFORTS[value]
