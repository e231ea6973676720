"""`qwen35`: the list of commands, and how any of them ends."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from qwen35_local.errors import Qwen35Error

app = typer.Typer(
    name="qwen35",
    help="Run the Qwen3.5 family on your own machine: convert a checkpoint to 4 bits and talk to it.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        from qwen35_local import __version__

        typer.echo(f"qwen35-local {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


for name in ("chat", "quantize", "perplexity", "info", "plan", "bench", "selftest", "list", "rm"):
    app.command(name)(getattr(import_module(f"qwen35_local.cli.{name}"), name))


def main() -> None:
    """Exit codes: 0 done, 2 usage or bad input, 3 does not fit, 130 interrupted. One message, never a traceback."""
    try:
        app()
    except Qwen35Error as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        core = sys.modules.get("qwen35_local._core")
        if core is not None and isinstance(error, core.CoreError):
            fail(str(error))
        if isinstance(error, OSError):
            fail(f"{error.filename or 'system'}: {error.strerror or error}")
        if isinstance(error, MemoryError):
            fail("not enough memory for this model and context; take a smaller type or --ctx")
        raise


def fail(message: str) -> None:
    from qwen35_local.cli.terminal import printable

    sys.stderr.write(f"qwen35: {printable(message)}\n")
    sys.exit(2)
