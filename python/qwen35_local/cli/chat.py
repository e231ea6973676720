"""`qwen35 chat`: a conversation in the terminal, or one answer for a script."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qwen35_local.cli.argument import ModelOrDemo
from qwen35_local.cli.local import Local
from qwen35_local.cli.options import (
    BreakLoops,
    Cache,
    CacheDisk,
    Choices,
    Context,
    Device,
    Draft,
    KvOrAuto,
    LogitBias,
    Logprobs,
    Memory,
    Stop,
    ThinkBudget,
    Threads,
    setting,
)
from qwen35_local.cli.remote import Elsewhere, RemoteModel

if TYPE_CHECKING:
    from qwen35_local.cli.session import Session
    from qwen35_local.cli.session_store import SessionStore


def chat(
    context: typer.Context,
    model: ModelOrDemo = None,
    prompt: Annotated[
        str | None, typer.Option("-p", "--prompt", help="Answer this and leave; stdin goes first.")
    ] = None,
    system: Annotated[str | None, typer.Option("-s", "--system", help="System prompt.")] = None,
    think: Annotated[bool | None, typer.Option("--think/--no-think", help="Unset: as the model does.")] = None,
    think_budget: ThinkBudget = None,
    break_loops: BreakLoops = None,
    keep_thinking: Annotated[
        bool | None,
        typer.Option(
            "--keep-thinking/--no-keep-thinking", help="Thinking of finished turns. Unset: as the model does."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last conversation.")] = False,
    name: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="Go on with this saved conversation, or start it.")
    ] = None,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Keep the conversation, for --continue.")] = True,
    tools: Annotated[
        Path | None, typer.Option(help="JSON list of tools to offer, in the form of OpenAI, Anthropic or MCP.")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            "--json-schema",
            metavar="FILE|JSON",
            help="Answer in JSON by this schema: a file, or the schema itself.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One event per line as JSON, on stdout.")] = False,
    temperature: Annotated[float | None, setting("temperature", "0 is greedy. Unset: the official preset.")] = None,
    top_k: Annotated[int | None, setting("top_k", "Keep the k most likely tokens; 0: all.")] = None,
    top_p: Annotated[float | None, setting("top_p", "Keep the likeliest tokens of this total probability.")] = None,
    min_p: Annotated[float | None, setting("min_p", "Drop tokens below this share of the likeliest.")] = None,
    seed: Annotated[int | None, setting("seed", "Same seed, same answer.")] = None,
    max_tokens: Annotated[int | None, setting("max_tokens", "Longest reply, thinking included; 0: 32768.")] = None,
    stop: Stop = None,
    logit_bias: LogitBias = None,
    logprobs: Logprobs = None,
    n: Choices = 1,
    ctx: Context = 0,
    memory: Memory = None,
    kv: KvOrAuto = "auto",
    when_full: Annotated[
        Literal["stop", "compact"], typer.Option(help="Context full: stop, or drop the oldest turns and say so.")
    ] = "stop",
    cache: Cache = None,
    cache_disk: CacheDisk = 8,
    draft: Draft = "auto",
    threads: Threads = 0,
    device: Device = "auto",
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Talk to a model behind a server of OpenAI's API.", show_default=False),
    ] = None,
    remote_model: RemoteModel = None,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key that --endpoint asks for.", show_default=False)
    ] = None,
) -> None:
    """Talk to a model. On a terminal this is a conversation (/help lists its commands); with -p or input on stdin it
    answers once: the answer on stdout, everything else on stderr."""
    from qwen35_local.cli.keep import home_to_keep_in
    from qwen35_local.cli.model import check_device
    from qwen35_local.cli.session import read_schema, read_tool_file
    from qwen35_local.cli.terminal import typed
    from qwen35_local.errors import InputError

    elsewhere = Elsewhere("--endpoint", endpoint, "--api-key-file", api_key_file, remote_model)
    elsewhere.check(context)
    is_conversation = prompt is None and not as_json and is_terminal()
    if endpoint is None:
        check_device(device, is_greeted=is_conversation)
    check_choice(think, think_budget, logprobs, n, as_json=as_json)
    if (resume or name) and not is_conversation:
        raise InputError("--continue and --session go on with a conversation on a terminal; leave -p and --json out")
    offered = None if tools is None else read_tool_file(tools)
    wanted = None if schema is None else read_schema(typed(schema))
    question = "" if is_conversation else read_question(prompt)
    if not is_conversation and not question.strip():
        raise InputError("nothing to answer: give -p TEXT or text on stdin, or start it on a terminal")
    home = home_to_keep_in() if is_conversation and save else None
    store = open_session_store() if is_conversation and (home or resume or name) else None
    if store is not None and resume:
        name = name or store.newest()
    local = Local(model, ctx, memory, kv, cache, cache_disk, draft, threads, device)
    session = open_session(local, elsewhere, home, store, name)
    if system is not None:
        session.system = typed(system)
    if think is not None:
        session.thinking, session.thinking_tokens = think, None
    if think_budget is not None:
        session.thinking, session.thinking_tokens = True, think_budget
    if break_loops is not None:
        session.breaks_loops = break_loops
    if keep_thinking is not None:
        session.keep_thinking = keep_thinking
    if offered is not None:
        session.tools = offered
    if wanted is not None:
        session.hold_to(wanted)
    session.when_full = when_full
    session.stop, session.logprobs, session.n = tuple(stop or ()), logprobs, n
    for token, bias in logit_bias or ():
        session.bias(token, bias)
    chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    session.chosen |= {key: value for key, value in {**chosen, "max_tokens": max_tokens}.items() if value is not None}
    if is_conversation:
        from qwen35_local.cli.repl import Repl

        Repl(session, store if home else None, history=home / "history" if home else None).run()
    else:
        from qwen35_local.cli.oneshot import answer

        sys.exit(answer(session, question, as_json=as_json))


def check_choice(think: bool | None, think_budget: int | None, logprobs: int | None, n: int, *, as_json: bool) -> None:
    """Raises InputError for options that do not go together."""
    from qwen35_local.errors import InputError

    if logprobs is not None and not as_json:
        raise InputError("--logprobs tells them in the events of --json; add --json")
    if think_budget is not None and think is False:
        raise InputError("--think-budget is for thinking; leave out one of --no-think and --think-budget")
    if n > 1 and not as_json:
        raise InputError("--n tells several replies in the events of --json; add --json")


def is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def open_session_store() -> "SessionStore":
    """Where conversations are kept."""
    from qwen35_local import hub
    from qwen35_local.cli.session_store import SessionStore

    return SessionStore(hub.home() / "sessions")


def open_session(
    local: Local, elsewhere: Elsewhere, home: Path | None, store: "SessionStore | None", name: str | None
) -> "Session":
    """The conversation of this name with one of the two models; without a store a new one."""
    from qwen35_local.cli.session import Session

    if elsewhere.url is None:
        first_kv = store.kv_format(name) if store is not None and name else None
        session = Session(local.open(home, first_kv=first_kv), is_demonstration=local.model is None)
    else:
        session = Session(elsewhere.open())
    if store is not None:
        begin(session, store, name)
    return session


def begin(session: "Session", store: "SessionStore", name: str | None) -> None:
    """The conversation of this name as it was left, or a new one."""
    from qwen35_local.cli.terminal import notice

    store.tidy()
    session.name = name or store.new_name()
    if store.has(session.name):
        reason = store.take(session, session.name)
        if reason is not None:
            notice(f"(the model reads the conversation again: {reason})")


def read_question(prompt: str | None) -> str:
    """What stdin holds, when it is not a terminal, then the prompt. Raises InputError."""
    from qwen35_local.cli.piped import read_piped
    from qwen35_local.cli.terminal import typed

    piped = read_piped(is_needed=not prompt)
    return "\n\n".join(part for part in (piped, typed(prompt or "")) if part)
