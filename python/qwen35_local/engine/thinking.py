"""When the thinking of a reply is brought to an end, and with which tokens.

Whatever ends it, room is kept for an answer: a quarter of what the reply may have, at most 512 tokens. A limit that is
too small for the closing sentence, as much thinking and the answer is left as it is.
"""

from collections.abc import Callable

from qwen35_local.engine.reply import Reply
from qwen35_local.text.tokenizer import Tokenizer

CLOSING = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
)
"""What the family's models know as the end of a budget (Qwen3 Technical Report, 4.4; "Thinking Budget" in the
documentation of Qwen3). `</think>` and the template's white space follow it."""

ANSWER_TOKENS = 512  # kept for the answer, at most


def closing_tokens(tokenizer: Tokenizer) -> list[int]:
    """What is put behind thinking that has to end, up to where the answer begins."""
    return tokenizer.encode_turns([(), ((CLOSING, False), ("</think>", True), ("\n\n", False))])[1]


class Thinking:
    """The end of one reply's thinking. `closing` [n]: the tokens that bring it."""

    def __init__(
        self, budget: int | None, limit: int, tokenizer: Tokenizer, wants_answer: Callable[[], bool] = lambda: False
    ) -> None:
        """`budget`: tokens of thinking; None: as many as leave room for the answer. `limit`: the most tokens that the
        reply may have. `wants_answer` is asked after every token."""
        self.closing = closing_tokens(tokenizer)
        self._budget = budget
        self._limit = limit
        self._wants_answer = wants_answer
        latest = limit - min(ANSWER_TOKENS, limit // 4) - len(self.closing)
        self._latest = latest if latest >= len(self.closing) else limit

    def why_to_end(self, reply: Reply, *, repeats: bool) -> str | None:
        """Why no more of the thinking is wanted, in words; None while it may go on, and when an answer would have no
        room."""
        if len(reply.written) + len(self.closing) >= self._limit:
            return None
        if self._wants_answer():
            return "the thinking was ended to answer now"
        if self._budget is not None and reply.reasoning_tokens >= self._budget:
            return f"the thinking reached its budget of {self._budget:,} tokens"
        if repeats:
            return "the thinking repeated itself"
        if len(reply.written) >= self._latest:
            return "the thinking was ended to leave room for the answer"
        return None
