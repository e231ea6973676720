"""From what a request asks of the form of its reply to a `Form`."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from qwen35_local.chat.arguments import ToolSchemas
from qwen35_local.chat.call_grammar import call_grammar, can_be_written
from qwen35_local.chat.prompt import Prompt
from qwen35_local.chat.wishes import FREE_CHOICE, OutputFormat, ToolChoice
from qwen35_local.engine.constraint import NO_LIMIT, Calls, Constraint, Form, Tokens
from qwen35_local.engine.grammar import GrammarCompiler
from qwen35_local.engine.reply import Completion, Request
from qwen35_local.errors import InputError
from qwen35_local.text.tokenizer import Tokenizer

_MOST_CHARACTERS = 1 << 20
"""Of the schemas of all tools; calls are not held to more."""

_KEPT = 16
"""Sets of tools; the same one comes with every request of a conversation."""


class Forms:
    """Of the replies of one model. May be used from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._compiler = GrammarCompiler(tokenizer)
        self._tokens = Tokens(tokenizer)
        self._calls: OrderedDict[str, Future[Calls]] = OrderedDict()
        self._lock = threading.Lock()
        self._background: ThreadPoolExecutor | None = None

    def of(self, asked: Request | Completion, *, waits: bool = False) -> Form | None:
        """None where everything is free. The grammar of an answer is compiled here, which may take half a second, and
        one more for the first of a large vocabulary; that of calls in the background, while the prompt is read, unless
        it `waits` for that too: then a reply that opens a call never has to. Raises InputError for what cannot be
        followed."""
        choice = asked.tool_choice if isinstance(asked, Request) else FREE_CHOICE
        schemas = ToolSchemas(asked.tools if isinstance(asked, Request) else ())
        names = _callable(choice, schemas)
        answer = None if asked.output_format is None else self._compiler.answer(asked.output_format)
        if choice.mode == "required":
            if self._tokens.closer is None or self._tokens.opener is None:
                raise InputError("tool_choice: this model's vocabulary has no tokens <tool_call> and </tool_call>.")
            answer = None
        most = NO_LIMIT if choice.is_parallel else 1
        calls = self._calls_of(schemas, names) if names else None
        if calls is not None and waits:
            calls.result()
        if answer is None and calls is None and not schemas:
            return None
        return Form(self._tokens, answer, calls, most if names else 0, choice.mode == "required")

    def check(self, wanted: OutputFormat) -> None:
        """Raises InputError for what cannot be followed."""
        self._compiler.answer(wanted)

    def _calls_of(self, schemas: ToolSchemas, names: tuple[str, ...]) -> "Future[Calls] | None":
        closer = self._tokens.closer
        if closer is None or self._tokens.opener is None:
            return None
        key = json.dumps([(name, schemas.root(name)) for name in names])
        with self._lock:
            if key not in self._calls:
                if self._background is None:
                    self._background = ThreadPoolExecutor(1, "grammars of calls")
                self._calls[key] = self._background.submit(self._compile_calls, schemas, names, closer)
            self._calls.move_to_end(key)
            while len(self._calls) > _KEPT:
                self._calls.popitem(last=False)
            return self._calls[key]

    def _compile_calls(self, schemas: ToolSchemas, names: tuple[str, ...], closer: int) -> Calls:
        """What cannot be followed of the schemas is left out, all of them if need be: a call is never refused."""
        notes: list[str] = []
        whole = [schemas]
        if sum(len(json.dumps(schemas.root(name))) for name in names) > _MOST_CHARACTERS:
            whole = []
            notes.append(f"calls are not held to schemas of more than {_MOST_CHARACTERS:,} characters")
        for known in (*whole, _without_types(schemas, names)):
            grammar = call_grammar(names, known, closer, self._compiler.accepts)
            try:
                return Calls(self._compiler.compiled(grammar.text), (*notes, *grammar.notes))
            except ValueError as error:
                notes.append(f"calls are not held to the schemas of the tools: {error}")
        return Calls(None, tuple(notes))


def constraint_of(form: Form | None, asked: Request | Completion, prompt: Prompt) -> Constraint | None:
    """For one reply to a prompt."""
    if form is None:
        return None
    if isinstance(asked, Completion):
        return form.begin(in_reasoning=False)
    may_think = asked.thinking is not False and not prompt.starts_in_answer
    return form.begin(in_reasoning=prompt.starts_in_reasoning, may_think=may_think and not prompt.starts_in_reasoning)


def _callable(choice: ToolChoice, schemas: ToolSchemas) -> tuple[str, ...]:
    """The tools that may be called. Raises InputError."""
    unknown = next((name for name in choice.names or () if name not in schemas), None)
    if unknown is not None:
        raise InputError(f"tool_choice names {unknown[:80]!r}; expected one of the tools given.")
    if choice.mode == "none":
        return ()
    names = tuple(name for name in schemas if choice.names is None or name in choice.names)
    usable = tuple(filter(can_be_written, names))
    if choice.mode == "required" and not usable:
        found = f"a call of {names[0][:80]!r} cannot be written" if names else "there is no tool to call"
        raise InputError(f"tool_choice asks for a call, and {found}.")
    return usable


def _without_types(schemas: ToolSchemas, names: tuple[str, ...]) -> ToolSchemas:
    """The same names and parameters."""

    def bare(name: str) -> Mapping[str, Any]:
        parameters: dict[str, Any] = {"properties": {key: {} for key in schemas.declared(name)}}
        return {"name": name, "parameters": parameters | {"required": sorted(schemas.required(name))}}

    return ToolSchemas(bare(name) for name in names)
