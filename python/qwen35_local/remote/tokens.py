"""A tokenizer that another server has, asked text by text: llama.cpp's and vLLM's own API."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from qwen35_local.errors import FormatError, RemoteError
from qwen35_local.fields import TEXT, Fields, Kind, integer, list_of
from qwen35_local.remote.server import RemoteModel
from qwen35_local.remote.unknown import UnknownTokens

T = TypeVar("T")
_IDS = list_of(integer(0, 2**31 - 1))


class RemoteTokens(UnknownTokens):
    """`ask` posts a body to a path and returns what is answered. Methods raise what it does, and RemoteError."""

    def __init__(self, server: str, model: RemoteModel, ask: Callable[[str, Mapping[str, Any]], Any]) -> None:
        super().__init__(server)
        self._model = model
        self._ask = ask

    def decode(self, tokens: Sequence[int]) -> str:
        if self._model.kind == "vllm":
            return self._told("/detokenize", {"model": self._model.name, "tokens": [*tokens]}, "prompt", TEXT)
        return self._told("/detokenize", {"tokens": [*tokens]}, "content", TEXT)

    def encode_prompt(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        return self._encode(parts, is_beginning=True)

    def encode_turns(self, turns: Sequence[Sequence[tuple[str, bool]]]) -> list[list[int]]:
        return [self._encode(parts, is_beginning=n == 0) for n, parts in enumerate(turns)]

    def _encode(self, parts: Sequence[tuple[str, bool]], *, is_beginning: bool) -> list[int]:
        """A text in which special tokens are told apart from their spelling cannot be asked for."""
        text = "".join(text for text, _ in parts)
        if not text:
            return []
        spells = {is_template for _, is_template in parts}
        if self._model.kind == "vllm" and spells == {True}:
            body = {"model": self._model.name, "prompt": text, "add_special_tokens": is_beginning}
        elif self._model.kind == "llama.cpp" and len(spells) == 1:
            body = {"content": text, "add_special": is_beginning, "parse_special": True in spells}
        else:
            self._refuse()
        return self._told("/tokenize", body, "tokens", _IDS)

    def _told(self, path: str, body: Mapping[str, Any], key: str, kind: Kind[T]) -> T:
        value = self._ask(path, body)
        try:
            return Fields(value if isinstance(value, dict) else {}).need(key, kind)
        except FormatError as error:
            raise RemoteError(f"{self._server} sent what is no answer of {path}: {error}"[:600]) from None
