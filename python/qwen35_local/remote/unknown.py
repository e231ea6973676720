"""What only the machine has on which a model is: its tokenizer, its template, its weights.

These stand in for them. What can be said without is said; the rest raises `Unavailable`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from qwen35_local.errors import Unavailable


class UnknownTokens:
    """In the place of a tokenizer."""

    vocab_size = 0
    n_used = 2**31 - 1  # any id may be one
    bos_id = None
    stop_ids: frozenset[int] = frozenset()

    def __init__(self, server: str) -> None:
        self._server = server

    def one_token(self, text: str) -> int:
        """An id stands for itself."""
        return int(text) if text.isdecimal() and len(text) < 10 else self._refuse()

    def decode(self, tokens: Sequence[int]) -> str:
        return self._refuse() if tokens else ""

    def encode_prompt(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        return self._refuse()

    def encode_turns(self, turns: Sequence[Sequence[tuple[str, bool]]]) -> list[list[int]]:
        return self._refuse()

    def token_bytes(self, token: int) -> bytes:
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise Unavailable(f"the tokens of a text are known to {self._server} alone; ask for a chat instead.")


class UnknownTemplate:
    """In the place of a template."""

    text = ""
    variant = None

    def __init__(self, server: str) -> None:
        self._server = server

    def render(self, *conversation: Any, **options: Any) -> NoReturn:
        raise Unavailable(f"the template is known to {self._server} alone; ask for a chat instead.")


@dataclass(frozen=True)
class Elsewhere:
    """In the place of a conversation at work."""

    n_rows: int = 0


class UnknownWeights:
    """In the place of a model."""

    weight_bytes = 0
    drafts = 0
    metadata: Mapping[str, Any] = {}

    def __init__(self, server: str) -> None:
        self.device = server
