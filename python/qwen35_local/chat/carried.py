"""The chat template among a model file's metadata."""

from collections.abc import Mapping

from qwen35_local.errors import FormatError
from qwen35_local.fields import TEXT, TEXTS, Fields

_KEY = "tokenizer.chat_template"


def carried_template(metadata: Mapping[str, object]) -> str | None:
    """The text of `tokenizer.chat_template`, or of the default among several named ones (`tokenizer.chat_templates`
    lists the names, `tokenizer.chat_template.NAME` holds each); None when the file has no template.

    Raises FormatError when what it has is no text, or nothing says which one is meant."""
    fields = Fields(metadata)
    text = fields.find(_KEY, TEXT)
    if text is not None:
        return text
    names = fields.find(f"{_KEY}s", TEXTS) or []
    name = chosen(names)
    if name is None and names:
        raise FormatError(
            f"{_KEY}s has {', '.join(map(repr, names))[:200]}; expected one of them to be called 'default'."
        )
    return fields.find(f"{_KEY}.default", TEXT) if name is None else fields.need(f"{_KEY}.{name}", TEXT)


def chosen(names: list[str]) -> str | None:
    """Which of several named templates is for conversations: the default, or the only one."""
    return "default" if "default" in names else names[0] if len(names) == 1 else None
