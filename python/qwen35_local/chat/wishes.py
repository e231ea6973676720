"""What may be asked of a reply beside the conversation: the form of the answer, and which tools are called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

from qwen35_local import json_file
from qwen35_local.errors import InputError

FormatKind: TypeAlias = Literal["json_object", "json_schema", "regex", "lark"]
ChoiceMode: TypeAlias = Literal["auto", "none", "required"]


@dataclass(frozen=True)
class OutputFormat:
    """The form of an answer. `definition`: the JSON text of a schema, a regular expression or a Lark grammar in the
    dialect of llguidance; "" for any JSON object."""

    kind: FormatKind
    definition: str = ""

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> Self:
        """JSON by a schema. Raises InputError when that is no JSON."""
        try:
            return cls("json_schema", json_file.plain_text(schema))
        except ValueError as error:
            raise InputError(f"output_format: expected a JSON schema of plain values: {error}.") from None


@dataclass(frozen=True)
class ToolChoice:
    """`auto`: the model decides; `none`: no call; `required`: at least one. `names`: only these may be called, all of
    them when None. The prompt shows every tool in any case, so that it is read once. `is_parallel`: whether one reply
    may have several calls."""

    mode: ChoiceMode = "auto"
    names: tuple[str, ...] | None = None
    is_parallel: bool = True


FREE_CHOICE = ToolChoice()
