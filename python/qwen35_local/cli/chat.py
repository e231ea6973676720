"""`qwen35 chat`: a conversation in the terminal, or one answer for a script."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def chat(
    model: Annotated[
        str | None,
        typer.Argument(help="GGUF file or checkpoint folder; nothing: the embedded demo.", show_default=False),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("-p", "--prompt", help="Answer this and leave; stdin goes first.")
    ] = None,
    system: Annotated[str | None, typer.Option("-s", "--system", help="System prompt.")] = None,
    think: Annotated[bool | None, typer.Option("--think/--no-think", help="Unset: as the model does.")] = None,
    tools: Annotated[Path | None, typer.Option(help="JSON list of tools, in OpenAI's form, to offer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One event per line as JSON, on stdout.")] = False,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy. Unset: the official preset.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the k most likely tokens; 0: all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the likeliest tokens of this total probability.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Drop tokens below this share of the likeliest.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest reply, thinking included; 0: 32768.")] = None,
    ctx: Annotated[int, typer.Option(min=0, help="Context in tokens; 0: the model's own, if it fits.")] = 0,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most memory to take, as in 8G. Unset: what is free.", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as this process may use.")] = 0,
) -> None:
    """Talk to a model. On a terminal this is a conversation (/help lists its commands); with -p or input on stdin it
    answers once: the answer on stdout, everything else on stderr."""
    from qwen35_local.cli.model import open_engine
    from qwen35_local.cli.session import Session, read_tool_file
    from qwen35_local.errors import InputError

    is_conversation = prompt is None and sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    question = "" if is_conversation else read_question(prompt)
    if not is_conversation and not question.strip():
        raise InputError("nothing to answer: give -p TEXT or text on stdin, or start it on a terminal")
    offered = read_tool_file(tools) if tools is not None else ()
    engine = open_engine(model, context_tokens=ctx, threads=threads, memory=memory)
    session = Session(engine, is_demonstration=model is None, system=system, thinking=think, tools=offered)
    options = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seed": seed,
        "max_tokens": max_tokens,
    }
    for name, value in options.items():
        if value is not None:
            session.choose(name, str(value))
    if is_conversation:
        from qwen35_local.cli.repl import Repl

        Repl(session).run()
    else:
        from qwen35_local.cli.oneshot import answer

        sys.exit(answer(session, question, as_json=as_json))


def read_question(prompt: str | None) -> str:
    """What stdin holds, when it is not a terminal, then the prompt. Bytes that are not UTF-8 become U+FFFD."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8", "replace")
    given = (prompt or "").encode("utf-8", "replace").decode("utf-8")
    return "\n\n".join(part for part in (piped.strip("\n"), given) if part)
