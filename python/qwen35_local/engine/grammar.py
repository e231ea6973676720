"""Grammars over tokens: JSON schemas, regular expressions and Lark to the tokens that may come next.

The work is done by llguidance, which is loaded with the first grammar, when its view of the vocabulary is built, once.
"""

import functools
import re
import threading
from collections import OrderedDict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qwen35_local.chat.schema import json_rule, read_schema
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.errors import InputError
from qwen35_local.text.tokenizer import Tokenizer

Mask = NDArray[np.uint32]
"""Bit i % 32 of word i // 32: whether token i may come next. As `Sampler.set_mask` takes it."""


def allows(mask: Mask | None, token: int) -> bool:
    """None: every token."""
    return mask is None or bool(token // 32 < len(mask) and mask[token // 32] >> np.uint32(token % 32) & np.uint32(1))


def is_same(one: Mask | None, other: Mask | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


_MOST_CHARACTERS = {"json_object": 0, "json_schema": 1 << 18, "regex": 1 << 14, "lark": 1 << 16}

_LIMITS = {
    "max_items_in_row": 2000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 20_000,  # of 1 to 2 kB each
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
"""What a grammar may take: below 0.5 s to compile, 20 ms for a mask, 40 MB."""

_OPTIONS = '\n%llguidance {"no_forcing": true}\n'
"""Text that is the only one possible is drawn like any other: finding its tokens ahead takes seconds if it is long."""

_KEPT = 16
"""Compiled grammars; the tools and schemas of a conversation come with every request of it."""


_ECHO = re.compile(r"\d+ \|")


class _Matcher(Protocol):
    """What is used of llguidance.LLMatcher."""

    def compute_bitmask(self) -> bytes: ...
    def consume_token(self, sampled_token: int) -> bool: ...
    def is_accepting(self) -> bool: ...
    def is_error(self) -> bool: ...
    def get_error(self) -> str: ...
    def deep_copy(self) -> "_Matcher": ...


class Grammar:
    """A place in a text that a grammar describes. Where the grammar is complete, the tokens that end a turn may come
    too. Nothing raises: what goes wrong shows in `failure`."""

    def __init__(self, matcher: _Matcher) -> None:
        self._matcher = matcher

    def copy(self) -> "Grammar":
        """Goes on from the same place by itself."""
        return Grammar(self._matcher.deep_copy())

    def mask(self) -> Mask:
        return np.frombuffer(self._matcher.compute_bitmask(), np.uint32)

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def is_complete(self) -> bool:
        return self._matcher.is_accepting()

    @property
    def failure(self) -> str:
        """Why it cannot go on; "" as long as it can."""
        return _on_one_line(self._matcher.get_error()) if self._matcher.is_error() else ""


class GrammarCompiler:
    """Compiles grammars for one vocabulary, and keeps the last ones. May be used from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._kept: OrderedDict[str, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, wanted: OutputFormat) -> Grammar:
        """The grammar of an answer. Raises InputError saying what cannot be followed."""
        kind, definition = wanted.kind, wanted.definition
        what = {"regex": "the regular expression", "lark": "the grammar"}.get(kind, "the JSON schema")
        if len(definition) > _MOST_CHARACTERS[kind]:
            raise InputError(
                f"output_format: {what} has {len(definition):,} characters; "
                f"expected at most {_MOST_CHARACTERS[kind]:,}."
            )
        try:
            return self.compiled(definition if kind == "lark" else f"start: {_rule(wanted)}")
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"output_format: {what} cannot be followed: {error}.") from None

    def compiled(self, lark: str) -> Grammar:
        """Of a Lark grammar. Raises ValueError saying what is wrong."""
        with self._lock:
            if lark not in self._kept:
                library = _llguidance()
                source = library.LLMatcher.grammar_from_lark(lark + _OPTIONS)
                limits = library.LLParserLimits(**_LIMITS)
                matcher = library.LLMatcher(self._vocabulary, source, log_level=0, limits=limits)
                if matcher.is_error():
                    raise ValueError(_on_one_line(matcher.get_error()))
                self._kept[lark] = Grammar(matcher)
            self._kept.move_to_end(lark)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[lark]

    @staticmethod
    def accepts(lark: str) -> bool:
        """Whether a grammar can be followed, whatever the vocabulary."""
        library = _llguidance()
        source = library.LLMatcher.grammar_from_lark(lark + _OPTIONS)
        is_error, _ = library.LLMatcher.validate_grammar_with_warnings(source, limits=library.LLParserLimits(**_LIMITS))
        return not is_error

    @functools.cached_property
    def _vocabulary(self) -> Any:
        tokenizer = self._tokenizer
        return _llguidance().LLTokenizer(
            _Spellings(tokenizer), n_vocab=tokenizer.vocab_size, eos_token=sorted(tokenizer.stop_ids)
        )


class _Spellings:
    """A vocabulary as llguidance asks for one."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        n_tokens = tokenizer.vocab_size
        self.eos_token_id = min(tokenizer.stop_ids)
        self.tokens = [tokenizer.token_bytes(n) for n in range(n_tokens)]
        padding = range(tokenizer.n_used, n_tokens)
        self.special_token_ids = sorted(
            {*padding, *tokenizer.end_ids, *tokenizer.special_tokens.values()}
            | {n for n, spelling in enumerate(self.tokens) if not spelling}
        )
        self._tokenizer = tokenizer
        self._of_bytes = {spelling[0]: n for n, spelling in enumerate(self.tokens) if len(spelling) == 1}

    def __call__(self, text: str | bytes) -> list[int]:
        """The tokens of a text, to the byte: a tokenizer may normalise, a grammar may not."""
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        ids = self._tokenizer.encode(data.decode("utf-8", "replace"))
        if b"".join(self.tokens[n] for n in ids) == data:
            return ids
        return [self._of_bytes[byte] for byte in data if byte in self._of_bytes]


def _rule(wanted: OutputFormat) -> str:
    """Raises InputError or ValueError."""
    if wanted.kind == "regex":
        return f"/{_llguidance().regex_to_lark(wanted.definition, use_ascii='')}/" if wanted.definition else '""'
    return json_rule(read_schema(wanted.definition) if wanted.kind == "json_schema" else {"type": "object"})


def _llguidance() -> Any:
    """Takes 0.1 s to load, and most replies have no grammar."""
    import llguidance

    return llguidance


def _on_one_line(error: str) -> str:
    """An error without the grammar and the markers that come with it."""
    lines = [line.strip() for line in error.splitlines()]
    said = " ".join(line for line in lines if line.strip("^ ") and not _ECHO.match(line))
    return said.rpartition("failed to compile JSON schema: ")[2][:300].rstrip(".")
