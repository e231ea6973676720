"""Renders one Jinja template for one or more contexts, in a process of its own that may be killed at any time.

Run by `sandbox.py` as a script: a JSON request on standard input, a JSON reply on standard output. The sandbox keeps a
template from running code; the limits of the process keep it from hanging or from filling the memory, which the sandbox
does not. Variables and filters are those of Hugging Face `apply_chat_template`.
"""

import json
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_SAFE_JINJA = (3, 1, 6)  # earlier sandboxes can be left (CVE-2025-27516)


def limit_process(cpu_seconds: int, memory_bytes: int) -> None:
    """Processor time, address space, no files written, no core dump. Not on Windows, which lacks `resource`."""
    try:
        import resource
    except ImportError:
        return
    wanted = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in wanted.items():
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):  # macOS refuses some; the clock of the parent process remains
            continue


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` … `{% endgeneration %}` tell a training program which part the model writes. Between them a
    template goes on as if they were not there."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """The environment chat templates are written for."""
    version = tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit())
    if version < _SAFE_JINJA:
        raise RuntimeError(f"jinja2 {jinja2.__version__} is not safe with foreign templates; install 3.1.6 or newer")
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, GenerationTag]
    )
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = _strftime_now
    return env


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def render(template: str, contexts: list[dict[str, Any]], output_characters: int) -> list[dict[str, str]]:
    """One {"text": ...} or {"error": ...} per context; a template that cannot be compiled fails for all."""
    try:
        compiled = environment().from_string(template)
    except Exception as error:
        return [{"error": _describe(error)}] * len(contexts)
    return [_render_one(compiled, context, output_characters) for context in contexts]


def _render_one(compiled: jinja2.Template, context: dict[str, Any], output_characters: int) -> dict[str, str]:
    pieces = []
    n_characters = 0
    try:
        for piece in compiled.generate(context):
            n_characters += len(piece)
            if n_characters > output_characters:
                return {"error": f"it writes more than {output_characters} characters"}
            pieces.append(piece)
    except Exception as error:
        return {"error": _describe(error)}
    return {"text": "".join(pieces)}


def _describe(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (text if line is None else f"{text} (line {line})")[:500]


def main() -> None:
    """Serves one request and exits."""
    request = json.load(sys.stdin)
    limit_process(request["cpu_seconds"], request["memory_bytes"])
    json.dump(render(request["template"], request["contexts"], request["output_characters"]), sys.stdout)


if __name__ == "__main__":
    main()
