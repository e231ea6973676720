"""From a conversation to the tokens it stands for, and the places in them worth a snapshot.

A conversation stands for the tokens of its rendered prompt, turn by turn, with one exception: a turn that is shown with
its thinking (or the template's empty thinking) and that the reply log knows stands for the tokens the model wrote
there, if those spell what the template writes but for white space. A turn that is shown without its thinking is read
anew in any case, and so is the template's text and nothing else. The tokens therefore depend on the conversation and on
what was generated, never on what is cached.

An image stands for the rows that an encoder makes of it, in the place of the template's one placeholder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from qwen35_local import _core
from qwen35_local.chat.messages import Media, Message
from qwen35_local.chat.prompt import Prompt, Turn
from qwen35_local.engine.model_input import ModelInput
from qwen35_local.engine.reply_log import ReplyLog, Written
from qwen35_local.errors import InputError
from qwen35_local.text.tokenizer import Tokenizer

SYSTEM = "the system prompt"

Vision: TypeAlias = Callable[[Media], _core.InputRows]
"""The rows of an image. Asked for at every encoding of a conversation, so it keeps them."""

_END = "<|im_end|>\n"
_PLACEHOLDERS = ("<|image_pad|>", "<|video_pad|>")


@dataclass
class Encoded:
    """`inputs`: rows that are not tokens, and where they begin. `checkpoints`: index to label. `ends`: where each turn
    ends.
    `last_turn_at`: where the last turn begins, the model's own if the prompt opens it. `given`: what the model's own
    turn goes on from."""

    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    inputs: list[tuple[int, _core.InputRows]] = field(default_factory=list)
    given: Message | None = None

    @classmethod
    def of_tokens(cls, tokens: Sequence[int]) -> "Encoded":
        """A prompt that is no conversation."""
        return cls(Prompt(()), list(tokens), {len(tokens): "the end of the prompt"}, [len(tokens)])

    @property
    def model_input(self) -> ModelInput:
        return ModelInput(np.array(self.tokens, np.int32), tuple(self.inputs))

    def part(self, n: int) -> "Encoded":
        """The first n rows."""
        marks = {at: label for at, label in self.checkpoints.items() if at <= n}
        ends = [end for end in self.ends if end <= n]
        return Encoded(self.prompt, self.tokens[:n], marks, ends, [run for run in self.inputs if run[0] < n])

    @property
    def last_turn_at(self) -> int:
        return self.ends[-2] if len(self.ends) > 1 else 0

    @property
    def opening(self) -> str:
        """What the template writes before the model's own turn, thinking that was given and all behind it left out."""
        turn = self.prompt.turns[-1]
        return turn.text if self.given is None else turn.segments[0].text

    def give(self, given: Message, tokenizer: Tokenizer) -> None:
        """The model's turn begins with the text of a message; its thinking is in the prompt. The text is encoded by
        itself, so that what is written behind it changes no token of it."""
        self.given = given
        self.tokens += tokenizer.encode_turns([(), ((given.text, False),)])[1]
        self.ends[-1] = len(self.tokens)
        self.checkpoints[len(self.tokens)] = "the end of the text that the reply goes on from"

    def given_tokens(self, tokenizer: Tokenizer) -> list[int]:
        """Those of the model's own turn that it did not write, behind the opening."""
        if self.given is None:
            return []
        opening = tokenizer.encode_turns([(), ((self.opening, True),)])[1]
        return self.tokens[self.last_turn_at + len(opening) :]


def encode(
    prompt: Prompt,
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    reply_log: ReplyLog,
    *,
    strips_thinking: bool,
    vision: Vision | None = None,
) -> Encoded:
    """`messages`: what `prompt` was rendered from. `strips_thinking`: a later prompt may show a turn without its
    thinking, so that the places before it are marked. Raises InputError for an image without `vision`, or one that the
    template does not show."""
    encoded = Encoded(prompt)
    placeholders = {n for token in _PLACEHOLDERS if (n := tokenizer.special_tokens.get(token)) is not None}
    images = _images(messages, vision)
    think = tokenizer.special_tokens.get("<think>") if strips_thinking else None
    plain = tokenizer.encode_turns(turn.segments for turn in prompt.turns)
    n_system = int(bool(messages) and messages[0].role == "system")
    for turn, ids in zip(prompt.turns, plain, strict=True):
        start = len(encoded.tokens)
        written = _written(turn, messages, reply_log, lambda: encoded.model_input.digest)
        if written is not None:
            opening, end = tokenizer.encode_turns([(), ((written.opening, True),), ((_END, True),)])[1:]
            ids = [*opening, *written.tokens, *end]
        name = _name(turn, n_system)
        if think in ids[:8]:
            # A few tokens behind the end of the turn before, and of more use: replies and their retries start here.
            if encoded.checkpoints.get(start) != f"the end of {SYSTEM}":
                encoded.checkpoints.pop(start, None)
            encoded.checkpoints[start + ids.index(think)] = f"where {name} starts, before its thinking"
        if placeholders.isdisjoint(ids):
            encoded.tokens += ids
        else:
            _add_images(encoded, ids, placeholders, images)
        encoded.checkpoints[len(encoded.tokens)] = (
            f"the end of {name}" if turn.kind != "generation" else f"where {name} starts"
        )
        encoded.ends.append(len(encoded.tokens))
    if next(images, None) is not None:
        raise InputError("a message holds an image, and the model's template has no place for it; give text only")
    return encoded


def _images(messages: Sequence[Message], vision: Vision | None) -> Iterator[_core.InputRows]:
    for message in messages:
        for part in message.parts:
            if not isinstance(part, Media):
                continue
            if vision is None:
                what = "an image" if part.kind == "image" else "a video"
                raise InputError(f"a message holds {what}, and no encoder for it is loaded; give text only")
            yield vision(part)


def _add_images(
    encoded: Encoded, ids: Sequence[int], placeholders: set[int], images: Iterator[_core.InputRows]
) -> None:
    """The tokens of a turn, the placeholder of an image once for each of its rows."""
    for token in ids:
        rows = next(images, None) if token in placeholders else None
        if rows is not None:
            encoded.inputs.append((len(encoded.tokens), rows))
        encoded.tokens += [token] * (1 if rows is None else len(rows))


def _name(turn: Turn, n_system: int) -> str:
    if turn.kind == "system":
        return SYSTEM
    if turn.n_messages is None:
        return "a turn"
    return f"message {turn.n_messages - n_system + (turn.kind == 'generation')}"


def _written(turn: Turn, messages: Sequence[Message], reply_log: ReplyLog, before: Callable[[], str]) -> Written | None:
    """What the model wrote, if this turn shows all of it."""
    if turn.kind != "assistant" or turn.n_messages is None:
        return None
    written = reply_log.choose(messages[turn.n_messages - 1], before)
    if written is None or not turn.segments[0].text.startswith(written.opening):
        return None
    shown = turn.text.removeprefix(written.opening).removesuffix(_END)
    return written if "".join(shown.split()) == "".join(written.text.split()) else None
