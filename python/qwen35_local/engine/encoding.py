"""From a conversation to the tokens it stands for, and the places in them worth a snapshot.

A conversation stands for the tokens of its rendered prompt, turn by turn, with one exception: a turn that is shown with
its thinking (or the template's empty thinking) and that the reply log knows stands for the tokens the model wrote
there, if those spell what the template writes but for white space. A turn that is shown without its thinking is read
anew in any case, and so is the template's text and nothing else. The tokens therefore depend on the conversation and on
what was generated, never on what is cached.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen35_local.chat.messages import Message
from qwen35_local.chat.prompt import Prompt, Turn
from qwen35_local.engine.reply_log import ReplyLog, Written
from qwen35_local.text.tokenizer import Tokenizer

SYSTEM = "the system prompt"

_END = "<|im_end|>\n"


@dataclass
class Encoded:
    """`checkpoints`: position to label. `ends`: where each turn ends.
    `last_turn_at`: where the last turn begins, the model's own if the prompt opens it."""

    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)

    @property
    def last_turn_at(self) -> int:
        return self.ends[-2] if len(self.ends) > 1 else 0

    @property
    def opening(self) -> str:
        return self.prompt.turns[-1].text


def encode(
    prompt: Prompt, messages: Sequence[Message], tokenizer: Tokenizer, reply_log: ReplyLog, *, strips_thinking: bool
) -> Encoded:
    """`messages`: what `prompt` was rendered from. `strips_thinking`: a later prompt may show a turn without its
    thinking, so that the places before it are marked."""
    encoded = Encoded(prompt)
    think = tokenizer.special_tokens.get("<think>") if strips_thinking else None
    plain = tokenizer.encode_turns(turn.segments for turn in prompt.turns)
    n_system = int(bool(messages) and messages[0].role == "system")
    for turn, ids in zip(prompt.turns, plain, strict=True):
        start = len(encoded.tokens)
        written = _written(turn, messages, reply_log, encoded.tokens)
        if written is not None:
            opening, end = tokenizer.encode_turns([(), ((written.opening, True),), ((_END, True),)])[1:]
            ids = [*opening, *written.tokens, *end]
        name = _name(turn, n_system)
        if think in ids[:8]:
            # A few tokens behind the end of the turn before, and of more use: replies and their retries start here.
            if encoded.checkpoints.get(start) != f"the end of {SYSTEM}":
                encoded.checkpoints.pop(start, None)
            encoded.checkpoints[start + ids.index(think)] = f"where {name} starts, before its thinking"
        encoded.tokens += ids
        encoded.checkpoints[len(encoded.tokens)] = (
            f"the end of {name}" if turn.kind != "generation" else f"where {name} starts"
        )
        encoded.ends.append(len(encoded.tokens))
    return encoded


def _name(turn: Turn, n_system: int) -> str:
    if turn.kind == "system":
        return SYSTEM
    if turn.n_messages is None:
        return "a turn"
    return f"message {turn.n_messages - n_system + (turn.kind == 'generation')}"


def _written(turn: Turn, messages: Sequence[Message], reply_log: ReplyLog, before: Sequence[int]) -> Written | None:
    """What the model wrote, if this turn shows all of it."""
    if turn.kind != "assistant" or turn.n_messages is None:
        return None
    written = reply_log.choose(messages[turn.n_messages - 1], before)
    if written is None or not turn.segments[0].text.startswith(written.opening):
        return None
    shown = turn.text.removeprefix(written.opening).removesuffix(_END)
    return written if "".join(shown.split()) == "".join(written.text.split()) else None
