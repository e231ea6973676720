"""The calls that may be written, as a Lark grammar (in the dialect of llguidance) of what follows `<tool_call>`:

    \\n<function=NAME>\\n<parameter=P>\\nVALUE\\n</parameter>\\n</function>\\n</tool_call>

Parameters come in any order, each once, the required ones always. A value that is a string by its schema is raw text up
to `</parameter>`, of a grammar of its own where the schema has one (`LARK`); any other is JSON by its schema.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from qwen35_local.chat.arguments import ToolSchemas, allowed_types
from qwen35_local.chat.schema import json_rule, leaves, listed

_NAME = re.compile(r"[^<>\s\"'](?:[^<>\n]{0,254}[^<>\s\"'])?")
"""Names that are read back as they are written: `chat/parser.py`."""

_MOST_IN_ANY_ORDER = 64
"""Which parameters are there is a number of as many bits; more of them come in the order of the schema."""

_LONGEST = 8192
"""A string with a limit beyond this has none."""

LARK = "x-lark"
"""In the schema of a string: the Lark grammar that it follows."""

_MOST_OF_A_GRAMMAR = 1 << 16

_BREAK = "\n"
_MOST_CHECKED = 500
"""Schemas of parameters; each takes up to a millisecond, and more for an odd one."""

_END = '"\\n</parameter>"'
_PLAIN = {"boolean": ("true", "false", "True", "False"), "null": ("null", "None")}
"""As JSON and as the official templates write them."""


class CallGrammar(NamedTuple):
    """`notes`: what of the schemas it does not hold calls to."""

    text: str
    notes: list[str]


_ESCAPE = re.compile(r"\\.|/", re.DOTALL)
_CLASSES = {"\\d": "[0-9]", "\\w": "[0-9A-Za-z_]", "/": "\\/"}
"""A schema's pattern is one of ECMA-262, where these are ASCII; Lark ends an expression with a slash."""

_COMBINED = {"anyOf", "oneOf", "allOf", "not", "if", "$ref"}


def can_be_written(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def call_grammar(
    names: Iterable[str], schemas: ToolSchemas, closer: int, accepts: Callable[[str], bool]
) -> CallGrammar:
    """Of the tools `names`. `closer`: the token `</tool_call>`. `accepts`: whether a rule can be followed."""
    writer = _Writer(schemas, accepts)
    tools = " | ".join(writer.tool(name) for name in names if can_be_written(name))
    start = f'start: "\\n<function=" ({tools}) "</function>\\n" <[{closer}]>'
    return CallGrammar("\n".join([start, *writer.rules]) + "\n", writer.notes)


class _Writer:
    """Rules and the names they go by."""

    def __init__(self, schemas: ToolSchemas, accepts: Callable[[str], bool]) -> None:
        self.rules = ['raw[suffix="</parameter>"]: /(?s:.*)/', "name: /[^<>\\n\"' ]{1,64}/"]
        self.notes: list[str] = []
        self._schemas = schemas
        self._accepts = accepts
        self._n_checked = 0

    def tool(self, tool: str) -> str:
        """What stands for a call of it, from its name on."""
        required = self._schemas.required(tool)
        declared = self._schemas.declared(tool)
        for name in [*declared, *(required - declared.keys())]:
            if not can_be_written(name) or name not in declared:
                self.notes.append(f"{tool}: the parameter {name[:80]!r} is not declared, or its name cannot be written")
        usable = sorted(filter(can_be_written, declared), key=lambda name: name not in required)  # required ones first
        n_required = len(required & {*usable})
        whole = {name: f'{_text(f"<parameter={name}>{_BREAK}")} {self._value(tool, name)} "\\n"' for name in usable}
        head = _text(f"{tool}>\n")
        if not usable and self._schemas.other(tool):
            return head + ' ("<parameter=" name ">\\n" raw "\\n")*'
        if len(usable) > _MOST_IN_ANY_ORDER:
            in_order = [self._rule(whole[name]) + "?" * (name not in required) for name in declared if name in whole]
            return f"{head} {' '.join(in_order)}"
        return f"{head} {self._in_any_order([*whole.values()], n_required)}" if usable else head

    def _in_any_order(self, each: list[str], n_required: int) -> str:
        """The first `n_required` always, the others or not."""
        rule = f"r{len(self.rules)}"
        ways = [f'"" %if is_ones([0:{n_required}])' if n_required else '""']
        ways += [f"{one} {rule}::set_bit({n}) %if bit_clear({n})" for n, one in enumerate(each)]
        self.rules.append(f"{rule}::_: " + "\n  | ".join(ways))
        return f"{rule}::0"

    def _value(self, tool: str, parameter: str) -> str:
        """A value and the tag after it."""
        root = self._schemas.root(tool)
        ways: list[str] = []
        texts: list[str] = []
        for leaf in leaves(self._schemas.declared(tool)[parameter], root):
            types = allowed_types(leaf, root)
            values = listed(leaf)
            if values is not None:
                ways += self._listed(values)
            elif "string" in types or not types:
                texts.append(self._text(leaf) if LARK not in leaf else self._lark(tool, parameter, leaf[LARK]))
            elif types < _PLAIN.keys() and not leaf.keys() & _COMBINED:
                ways += [f"{_text(word)} {_END}" for kind in types for word in _PLAIN[kind]]
            else:
                ways.append(f"{self._json(tool, parameter, leaf, types)} {_END}")
        is_mixed = texts and any(way.startswith("r") for way in ways)  # with JSON, of which a text may be the beginning
        return "raw" if is_mixed or "raw" in texts or not (texts or ways) else f"({' | '.join([*texts, *ways])})"

    def _listed(self, values: Iterable[Any]) -> list[str]:
        """Strings as they are, other values as JSON."""
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        return [f"{_text(text)} {_END}" for text in texts if "</parameter>" not in text]

    def _lark(self, tool: str, parameter: str, grammar: Any) -> str:
        """A string by a grammar."""
        rule = f"%lark {{\n{grammar}\n}} {_END}"
        if len(rule) <= _MOST_OF_A_GRAMMAR and self._accepts(f"start: {rule}"):
            return self._rule(rule)
        self.notes.append(f"{tool}: the values of {parameter} are not held to their grammar")
        return "raw"

    def _text(self, leaf: Mapping[str, Any]) -> str:
        """A string of a certain length or form; "raw" for any."""
        least, most, pattern = leaf.get("minLength", 0), leaf.get("maxLength"), leaf.get("pattern")
        if isinstance(pattern, str) and pattern.startswith("^") and pattern.endswith("$"):
            body = _ESCAPE.sub(lambda found: _CLASSES.get(found.group(), found.group()), pattern[1:-1])
        elif type(least) is int and (type(most) is int or most is None) and 0 <= least <= _LONGEST:
            body = f"(?s:.{{{least},{most if most is not None and most <= _LONGEST else ''}}})"
        else:
            return "raw"
        rule = f"v[suffix={_END}]: /{body}/"
        if body == "(?s:.{0,})" or not self._accepts(f"start: v\n{rule}"):
            return "raw"
        self.rules.append(f"r{len(self.rules)}{rule[1:]}")
        return f"r{len(self.rules) - 1}"

    def _json(self, tool: str, parameter: str, leaf: Mapping[str, Any], types: Iterable[str]) -> str:
        root = self._schemas.root(tool)
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        try:
            rule = json_rule({"type": sorted(types), **leaf, **definitions}, is_exact=False)
            self._n_checked += 1
            if self._n_checked <= _MOST_CHECKED and self._accepts(f"start: {rule}"):
                return self._rule(rule)
        except ValueError:
            pass
        self.notes.append(f"{tool}: the values of {parameter} are held to JSON, not to all of their schema")
        return self._rule(json_rule({"type": sorted(types)}))

    def _rule(self, body: str) -> str:
        self.rules.append(f"r{len(self.rules)}: {body}")
        return f"r{len(self.rules) - 1}"


def _text(text: str) -> str:
    """A text in a rule."""
    return json.dumps(text, ensure_ascii=False)
