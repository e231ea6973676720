"""Output that is taken as it comes: what a model writes behind a prompt that is no conversation."""

from qwen35_local.chat.events import Event, TextDelta


class VerbatimParser:
    """Passes text on. Stands in for `OutputParser` where tags have no meaning."""

    in_reasoning = False
    in_call = False

    def feed(self, text: str, *, is_token: bool = False) -> list[Event]:
        return [TextDelta(text)] if text else []

    def finish(self) -> list[Event]:
        return []
