"""Documents as windows of token ids, every subject in step with the others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from qwen35_local.errors import InputError, TemplateError
from qwen35_local.quantize.calibration.documents import Conversation, Document, Part, documents

_END_OF_TEXT = "<|endoftext|>"

Ids: TypeAlias = list[int]
_Tree: TypeAlias = "dict[str, _Tree] | Ids"
_Item = TypeVar("_Item")


class Tokenizer(Protocol):
    """What is asked of `text.tokenizer.Tokenizer`."""

    bos_id: int | None

    @property
    def special_tokens(self) -> Mapping[str, int]: ...

    def encode_prompt(self, segments: Iterable[tuple[str, bool]]) -> Ids: ...


class Prompt(Protocol):
    """What is asked of `chat.prompt.Prompt`."""

    @property
    def segments(self) -> Sequence[tuple[str, bool]]: ...


class Template(Protocol):
    """What is asked of `chat.template.Template`."""

    def render(
        self,
        messages: Iterable[Mapping[str, Any]],
        tools: Iterable[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        preserve_thinking: bool | None = None,
    ) -> Prompt: ...


def windows(
    tokenizer: Tokenizer, template: Template | None, length: int, *, part: Part = "calibration"
) -> Iterator[NDArray[np.int32]]:
    """The documents of a part in windows of `length` tokens, in an order of which every beginning has its share of all
    subjects. Conversations are rendered by `template`, the model's own; without one they are plain text.

    A window is of one document where that is long enough, then of what documents of one subject leave over, then of
    neighbouring subjects; what is left over at last, less than a window, is not used. Raises InputError."""
    if length < 1:
        raise InputError(f"windows of {length} tokens; expected at least one.")
    tree: dict[str, _Tree] = {}
    for document in documents():
        if document.part == part:
            _insert(tree, document.name.split("/"), encoded(document, tokenizer, template))
    for ids in _packed(tree, length)[0]:
        yield np.array(ids, np.int32)


def encoded(document: Document, tokenizer: Tokenizer, template: Template | None) -> Ids:
    """A document's token ids. Plain text ends as documents end in training; a rendered conversation ends by itself."""
    if isinstance(document.content, Conversation) and template is not None:
        segments = _rendered(document.content, template)
        if segments is not None:
            return tokenizer.encode_prompt(segments)
    end = tokenizer.special_tokens.get(_END_OF_TEXT)
    return tokenizer.encode_prompt([(document.text, False)]) + ([] if end is None else [end])


def _rendered(conversation: Conversation, template: Template) -> Sequence[tuple[str, bool]] | None:
    """None where a template refuses: some know no tools, or want users and assistants to take turns."""
    try:
        prompt = template.render(
            conversation.messages,
            conversation.tools,
            add_generation_prompt=False,
            preserve_thinking=conversation.preserve_thinking,
        )
    except (InputError, TemplateError):
        return None
    return prompt.segments


def _insert(tree: dict[str, _Tree], path: Sequence[str], ids: Ids) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        assert isinstance(below, dict), f"{'/'.join(path)}: a subject and a document have the same name"
        tree = below
    tree[path[-1]] = ids


def _packed(node: _Tree, length: int) -> tuple[list[Ids], Ids]:
    """The windows of a document, or of a subject with all that is in it; and what is left over."""
    if isinstance(node, list):
        whole = len(node) - len(node) % length
        return [node[start : start + length] for start in range(0, whole, length)], node[whole:]
    parts = [_packed(below, length) for below in node.values()]
    joined, rest = _packed(list(chain.from_iterable(rest for _, rest in parts)), length)
    return interleaved([*(windows for windows, _ in parts), joined]), rest


def interleaved(streams: Sequence[Sequence[_Item]]) -> list[_Item]:
    """One stream of several, each spread evenly over the whole."""
    places = sorted(
        ((2 * n + 1) / (2 * len(stream)), which, n) for which, stream in enumerate(streams) for n in range(len(stream))
    )
    return [streams[which][n] for _, which, n in places]
