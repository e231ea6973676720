"""The list of commands, and how any of them ends."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from qwen35_local.cli.terminal import printable
from qwen35_local.errors import DeviceError, Qwen35Error

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


for name in (
    "chat",
    "serve",
    "quantize",
    "imatrix",
    "perplexity",
    "info",
    "plan",
    "bench",
    "selftest",
    "doctor",
    "pull",
    "list",
    "rm",
):
    app.command(name)(getattr(import_module(f"qwen35_local.cli.{name}"), name))


def run() -> int:
    """Runs the command line; returns the exit code, or raises SystemExit with it: 0 done, 1 an error of this program,
    2 usage, bad input or output that cannot be written, 3 does not fit, 129 the terminal was closed, 130 interrupted,
    141 nobody reads the output, 143 asked to end. One message; a traceback only in Python's development mode."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except DeviceError as error:
        return failed(f"the device failed: {error}; `qwen35 doctor` checks it")
    except Qwen35Error as error:
        return failed(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # of click, whose copy inside typer has no name
            if isinstance(getattr(error, "message", None), str):
                error.message = error.message.removeprefix("Value error, ")  # type: ignore[attr-defined]  # pydantic's
            error.show()
            return int(error.exit_code)
        if isinstance(error, OSError):
            return failed(f"{error.filename or 'system'}: {error.strerror or error}")
        if isinstance(error, MemoryError):
            return failed("not enough memory for this model and context; take a smaller type or --ctx")
        if sys.flags.dev_mode:
            raise
        failed(
            f"an error of this program, {type(error).__name__}: {error}. Please report it with the traceback that "
            "`python -X dev -m qwen35_local` shows"
        )
        return 1
    return code if isinstance(code, int) else 0


def failed(message: str) -> int:
    sys.stderr.write(f"qwen35: {printable(message)}\n")
    return 2
