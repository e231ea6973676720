"""From a conversation that is to go on to the tokens of its prompt."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from qwen35_local.chat.messages import Message
from qwen35_local.chat.template import Template
from qwen35_local.engine.cache import Logits
from qwen35_local.engine.cached_sequence import Start
from qwen35_local.engine.compaction import compacted
from qwen35_local.engine.encoding import Encoded, Vision, encode
from qwen35_local.engine.reply import Compacted, ContextFull, Reply, Request, joined
from qwen35_local.engine.reply_log import ReplyLog, Written
from qwen35_local.errors import TemplateError
from qwen35_local.text.tokenizer import Tokenizer


@dataclass
class Prefilled:
    """A prompt that was read: its tokens, the logits [V] that follow, and where its reading started."""

    encoded: Encoded
    start: Start
    logits: Logits


class Prompts:
    """Of one model: its template and tokenizer, what it wrote before, and what stands for images."""

    def __init__(self, template: Template, tokenizer: Tokenizer, reply_log: ReplyLog, vision: Vision | None) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._reply_log = reply_log
        self._vision = vision

    def of(self, request: Request) -> Encoded:
        """The tokens that a conversation stands for. Raises InputError when a message is not valid."""
        return self._encoded(request, opens=True)

    def fitting(self, request: Request, context_tokens: int) -> tuple[Encoded, Compacted | None]:
        """The prompt, of fewer messages where the request allows that and it has to be. Raises ContextFull too."""
        request, dropped = compacted(request, lambda asked: len(self.of(asked).tokens), context_tokens)
        encoded = self.of(request)
        check_room(encoded, context_tokens)
        return encoded, dropped

    def keep(self, encoded: Encoded, reply: Reply) -> None:
        """Notes what was written, so that its message stands for these tokens. A message that a stop string cut does
        not: it stands for its text."""
        if not reply.written or reply.stop_string is not None:
            return
        tokens = (*encoded.given_tokens(self._tokenizer), *reply.written)
        message = reply.message if encoded.given is None else joined(encoded.given, reply.message)
        after = encoded.model_input.part(0, encoded.last_turn_at).digest
        self._reply_log.keep(Written(message, encoded.opening, tokens, self._tokenizer.decode(tokens), after))

    def ahead(self, messages: Sequence[Message], request: Request) -> Encoded | None:
        """A conversation that ends with a reply, as it will be shown once it goes on: a turn is added that stands for
        what comes next. None where a foreign template refuses that; nobody has asked for it yet."""
        follower = Message("tool" if messages[-1].tool_calls else "user", "?")
        with suppress(TemplateError):
            return self._encoded(replace(request, messages=[*messages, follower], goes_on=False), opens=False)
        return None

    def _encoded(self, request: Request, *, opens: bool) -> Encoded:
        given, before = request.given, request.messages[:-1] if request.goes_on else request.messages
        messages = [self._reply_log.recognised(message) for message in before]
        prompt = self._template.render(
            messages,
            request.tools,
            add_generation_prompt=opens,
            enable_thinking=request.thinking if given is None else bool(given.reasoning),
            preserve_thinking=request.keep_thinking,
            forces_thinking=request.keep_thinking is True,
        )
        if given is not None:
            prompt = prompt.with_thinking(given.reasoning or "")
        strips = not self._keeps_thinking(request)
        encoded = encode(
            prompt, messages, self._tokenizer, self._reply_log, strips_thinking=strips, vision=self._vision
        )
        if given is not None:
            encoded.give(given, self._tokenizer)
        return encoded

    def _keeps_thinking(self, request: Request) -> bool:
        """Whether every later prompt shows the thinking of today's turns."""
        variant = self._template.variant
        if variant is None:
            return False
        return variant.preserves_thinking is True if request.keep_thinking is None else request.keep_thinking


def check_room(encoded: Encoded, context_tokens: int) -> None:
    """Raises ContextFull for a prompt that leaves no room for a reply."""
    if len(encoded.tokens) >= context_tokens:
        raise ContextFull(len(encoded.tokens), context_tokens)
