"""`qwen35 serve`: a model for the programs of this machine, over HTTP."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from qwen35_local.cli.argument import ModelOrDemo
from qwen35_local.cli.local import Local
from qwen35_local.cli.options import (
    BreakLoops,
    Cache,
    CacheDisk,
    Context,
    Device,
    Draft,
    KvOrAuto,
    Memory,
    Threads,
    count,
    parsed_as,
    refuse,
)
from qwen35_local.cli.remote import OF_HERE, Elsewhere, RemoteModel, read_keys
from qwen35_local.errors import InputError
from qwen35_local.fields import number

PORT = 8035
_MOST_SECONDS = number(0, 1e6)


def seconds(help: str) -> object:
    return typer.Option(parser=parsed_as(_MOST_SECONDS), metavar="SECONDS", help=help)


def serve(
    context: typer.Context,
    model: ModelOrDemo = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's own needs a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, count(high=65535, help="0: any that is free.")] = PORT,
    unix_socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Listen on a unix socket instead.", show_default=False)
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A key a line; requests need one of them.", show_default=False)
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Of a web page that may ask, or a further name of this server. May be given again."
        ),
    ] = None,
    alias: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients see as the model.", show_default=False)
    ] = None,
    parallel: Annotated[int, count(low=1, high=256, help="Replies that are written side by side.")] = 4,
    queue: Annotated[int, count(help="Replies that may wait beyond those; more are refused with 429.")] = 64,
    prefill_share: Annotated[
        float,
        typer.Option(
            parser=parsed_as(number(0, 1)),
            metavar="SHARE",
            help="Of the time: what prompts may take from replies that are being written.",
        ),
    ] = 0.9,
    break_loops: BreakLoops = None,
    timeout: Annotated[float, seconds("Longest reply; 0: no limit.")] = 0,
    grace: Annotated[float, seconds("When asked to end: how long running replies may go on.")] = 10,
    ctx: Context = 0,
    memory: Memory = None,
    kv: KvOrAuto = "auto",
    cache: Cache = None,
    cache_disk: CacheDisk = 8,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Keep what was read for the next start.")] = True,
    draft: Draft = "auto",
    threads: Threads = 0,
    device: Device = "auto",
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Serve what a server of OpenAI's API elsewhere writes.", show_default=False),
    ] = None,
    upstream_model: RemoteModel = None,
    upstream_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key that --upstream asks for.", show_default=False)
    ] = None,
) -> None:
    """Serve a model over HTTP, to clients of OpenAI, Anthropic, Ollama and llama.cpp, with a page to talk on. Only
    programs of this machine reach it, unless --host says otherwise."""
    from qwen35_local.cli import server_state
    from qwen35_local.cli.keep import home_to_keep_in
    from qwen35_local.cli.model import check_device
    from qwen35_local.cli.terminal import typed
    from qwen35_local.engine.face import Face
    from qwen35_local.server.limits import Limits
    from qwen35_local.server.loading import loading
    from qwen35_local.server.log import Log
    from qwen35_local.server.run import Server, listen, listening_at, run
    from qwen35_local.server.security import Guard
    from qwen35_local.server.service import Service

    elsewhere = Elsewhere("--upstream", upstream, "--upstream-key-file", upstream_key_file, upstream_model)
    elsewhere.check(context, (*OF_HERE, "parallel", "queue", "prefill_share"))
    if upstream is None:
        check_device(device, is_greeted=True)
    if unix_socket is not None:
        refuse(context, ("host", "port"), "there is no address beside --unix-socket; leave one of them out.")
    keys = read_keys(api_key_file, "--api-key-file") if api_key_file is not None else []
    check_access(host if unix_socket is None else None, keys, allow_origin or ())
    with listen(host, port) if unix_socket is None else listening_at(unix_socket) as opened:
        home = home_to_keep_in() if cache_disk and upstream is None else None
        engine: Face
        with loading(opened):
            if upstream is None:
                local = Local(model, ctx, memory, kv, cache, cache_disk, draft, threads, device)
                engine = local.open(home, parallel=parallel, queue=queue, prefill_share=prefill_share)
            else:
                engine = elsewhere.open()
        limits = Limits(reply_seconds=timeout, grace_seconds=grace, breaks_loops=break_loops is not False)
        service = Service(engine, typed(alias or engine.name), limits, Log(write_line))
        guard = Guard(None if unix_socket is not None else host, keys, allow_origin or ())
        where = f"unix socket {unix_socket}" if unix_socket is not None else address(opened.getsockname())

        def started() -> None:
            write_line(f"{service.name} · {engine.summary}")
            page = "" if unix_socket is not None else "a page to talk on is there too; "
            write_line(f"serving at {where}; {page}Ctrl-C ends it")

        with server_state.kept(engine, home / "server" if home is not None and save else None, write_line):
            run(Server(service, guard, opened), started)


def check_access(host: str | None, keys: Sequence[str], origins: Iterable[str]) -> None:
    """Who may ask. `host` None: a unix socket. Raises InputError."""
    from qwen35_local.server.security import is_loopback

    for origin in origins:
        if re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin) is None:
            raise InputError(f"--allow-origin {origin}: expected an origin, as in http://localhost:3000.")
    if host is not None and not is_loopback(host) and not keys:
        raise InputError(
            f"--host {host} lets other machines in, so that a key is needed: write one into a file and give it with "
            "--api-key-file FILE. Without --host only programs of this machine reach the server."
        )


def address(name: tuple[str, int]) -> str:
    """The URL of a socket."""
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_line(text: str) -> None:
    """A line of the log."""
    from qwen35_local.cli.terminal import printable_line

    sys.stderr.write(printable_line(text, 1200) + "\n")
    sys.stderr.flush()
