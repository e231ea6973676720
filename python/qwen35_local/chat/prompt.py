"""A rendered prompt that still knows who wrote what."""

from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias

TurnKind: TypeAlias = Literal["system", "user", "assistant", "tool", "generation"]


class Segment(NamedTuple):
    """A stretch of prompt. Only where `is_template` holds may special tokens be recognised."""

    text: str
    is_template: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the prompt. It begins with a special token, so turns can be encoded one by one.

    `kind`: who speaks; "generation" is the opening that the model continues. `n_messages`: how many of the
    conversation's messages the prompt has covered when this turn ends, None where a foreign template does not tell."""

    kind: TurnKind
    segments: tuple[Segment, ...]
    n_messages: int | None

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole prompt: the system turn if there is one, a turn per message (a run of tool results is one turn), and the
    opening of the model's turn. The ends of turns are the places where a snapshot of the model can be used again."""

    turns: tuple[Turn, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Everything in order, for `Tokenizer.encode_prompt`."""
        return tuple(chain.from_iterable(turn.segments for turn in self.turns))

    @property
    def text(self) -> str:
        return "".join(turn.text for turn in self.turns)

    @property
    def starts_in_reasoning(self) -> bool:
        """Whether what the model writes next is reasoning: the prompt ends with an open `<think>`."""
        return self._ends_with("<think>")

    @property
    def starts_in_answer(self) -> bool:
        """Whether the prompt has ended the reasoning for the model: it ends with `</think>`."""
        return self._ends_with("</think>")

    def with_thinking(self, thoughts: str) -> "Prompt":
        """With these thoughts, and their end, where it leaves the thinking open."""
        if not self.starts_in_reasoning:
            return self
        *turns, last = self.turns
        closed = (*last.segments, Segment(thoughts.strip(), False), Segment("\n</think>\n\n", True))
        return Prompt((*turns, Turn(last.kind, closed, last.n_messages)))

    def _ends_with(self, tag: str) -> bool:
        last = next((s for s in reversed(self.segments) if s.text.strip()), Segment("", True))
        return last.is_template and last.text.rstrip().endswith(tag)
