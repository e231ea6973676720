"""`qwen35 serve`: a model for the programs of this machine, over HTTP."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from qwen35_local.cli.argument import DEMO_HELP
from qwen35_local.cli.options import BreakLoops, Device, Draft, KvOrAuto, Memory, Threads, count, gibibytes, parsed_as
from qwen35_local.cli.remote import RemoteModel, open_remote, read_keys, refuse_local, refuse_remote
from qwen35_local.errors import InputError
from qwen35_local.fields import number

PORT = 8035
_MOST_SECONDS = number(0, 1e6)


def seconds(help: str) -> object:
    return typer.Option(parser=parsed_as(_MOST_SECONDS), metavar="SECONDS", help=help)


def serve(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help=DEMO_HELP, show_default=False)] = None,
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
        list[str] | None, typer.Option(metavar="ORIGIN", help="Of a web page that may ask. May be given again.")
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
    ctx: Annotated[int, count(help="Context in tokens; 0: the model's own, if it fits.")] = 0,
    memory: Memory = None,
    kv: Annotated[KvOrAuto, typer.Option(help="How keys and values are kept; auto: the widest that fits.")] = "auto",
    cache: Annotated[
        float | None, gibibytes("Memory for points to go back to; unset: up to 1.", show_default=False)
    ] = None,
    cache_disk: Annotated[float, gibibytes("And disk, beyond that; 0: none.")] = 8,
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
    """Serve a model over HTTP, to clients of OpenAI's API. Only programs of this machine reach it, unless --host says
    otherwise."""
    from qwen35_local.api.opening import Wish
    from qwen35_local.cli import server_state
    from qwen35_local.cli.keep import home_to_keep_in, scratch_folder
    from qwen35_local.cli.model import check_device, memory_bytes, open_engine
    from qwen35_local.engine.engine import Engine
    from qwen35_local.engine.face import Face
    from qwen35_local.server.limits import Limits
    from qwen35_local.server.loading import loading
    from qwen35_local.server.log import Log
    from qwen35_local.server.run import Server, listen, listen_at, run
    from qwen35_local.server.security import Guard
    from qwen35_local.server.service import Service

    if upstream is None:
        refuse_remote("--upstream", {"--model": upstream_model, "--upstream-key-file": upstream_key_file})
        check_device(device)
    else:
        local = {"MODEL": model, "--ctx": ctx, "--memory": memory, "--kv": kv, "--cache": cache, "--draft": draft}
        refuse_local("--upstream", {**local, "--threads": threads, "--device": device})
    keys = read_keys(api_key_file, "--api-key-file") if api_key_file is not None else []
    check_access(host if unix_socket is None else None, keys, allow_origin or ())
    opened = listen(host, port) if unix_socket is None else listen_at(unix_socket)
    try:
        home = home_to_keep_in() if cache_disk and upstream is None else None
        wish = Wish(
            device=device,
            context_tokens=ctx,
            threads=threads,
            kv=kv,
            memory_bytes=memory_bytes(memory),
            cache_bytes=None if cache is None else int(cache * 2**30),
            disk_folder=scratch_folder(home) if home is not None else None,
            disk_bytes=int(cache_disk * 2**30),
            draft=draft,
            parallel=parallel,
            queue=queue,
            prefill_share=prefill_share,
        )
        engine: Face
        with loading(opened):
            if upstream is None:
                engine = open_engine(model, wish)
            else:
                engine = open_remote(upstream, "--upstream", upstream_key_file, upstream_model)
        kept_in = home / "server" if home is not None and save else None
        if (
            isinstance(engine, Engine)
            and kept_in is not None
            and (reason := server_state.take(engine, kept_in)) is not None
        ):
            write_line(f"what an earlier server had read is not used: {reason}")
        limits = Limits(reply_seconds=timeout, grace_seconds=grace, breaks_loops=break_loops is not False)
        service = Service(engine, alias or engine.name, limits, Log(write_line))
        guard = Guard(None if unix_socket is not None else host, keys, allow_origin or ())
        where = f"unix socket {unix_socket}" if unix_socket is not None else address(opened.getsockname())

        def started() -> None:
            write_line(f"{service.name} · {engine.summary}")
            page = "" if unix_socket is not None else "a page to talk on is there too; "
            write_line(f"serving at {where}; {page}Ctrl-C ends it")

        run(Server(service, guard, opened), started)
        if isinstance(engine, Engine) and kept_in is not None:
            try:
                server_state.keep(engine, kept_in)
            except OSError as error:
                write_line(f"what was read is not kept: {error.filename}: {error.strerror}")
    finally:
        opened.close()
        if unix_socket is not None:
            unix_socket.unlink(missing_ok=True)


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
