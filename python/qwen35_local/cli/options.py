"""Options that several commands have, each declared once, and the check of a value before anything is loaded."""

import math
import re
import reprlib
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import typer

from qwen35_local.chat.presets import BIAS, CHOICES, LOGPROBS, MAX_TOKENS, SETTINGS, STOP, THINKING_TOKENS
from qwen35_local.cli.terminal import typed
from qwen35_local.errors import InputError
from qwen35_local.fields import Kind, from_word, integer, number
from qwen35_local.models.drafts import read_drafts

MOST_TOKENS = (1 << 31) - 1
MOST_THREADS = 1024  # the core's own limit
_MOST_GIB = 1 << 20

DEVICES = ("auto", "cpu", "cuda", "metal")
Kv = Literal["f16", "q8", "k8v4", "q4"]


def parsed_as(kind: Kind[float]) -> Callable[[str], Any]:
    """What typer calls with the word of an option; its error names the option."""

    def parse(word: Any) -> Any:
        try:
            return from_word(str(word), kind)
        except InputError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


def setting(name: str, help: str) -> Any:
    """The option of a setting of the sampler."""
    kind = MAX_TOKENS if name == "max_tokens" else SETTINGS[name]
    return typer.Option(parser=parsed_as(kind), metavar="NUMBER", help=help, show_default=False)


def count(*flags: str, low: int = 0, high: int = MOST_TOKENS, help: str) -> Any:
    """An option that takes a whole number."""
    return typer.Option(*flags, parser=parsed_as(integer(low, high)), metavar="NUMBER", help=help)


def gibibytes(help: str, *, show_default: bool = True) -> Any:
    """An option that takes an amount of memory or disk."""
    kind = number(0, _MOST_GIB)
    return typer.Option(parser=parsed_as(kind), metavar="GIB", help=help, show_default=show_default)


def refuse(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Raises InputError, which names them, for parameters that stand on the command line, whatever their values."""
    sources = {name: context.get_parameter_source(name) for name in names}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    parameters = [parameter for parameter in context.command.params if parameter.name in given]
    if parameters:
        words = [max(one.opts, key=len) if one.param_type_name == "option" else one.name.upper() for one in parameters]
        raise InputError(f"{', '.join(words)}: {why}")


def stop_strings(words: list[str] | None) -> list[str]:
    """Checks what --stop was given."""
    stops = [typed(word) for word in words or ()]
    if not STOP.fits(stops):
        wrong = next((reprlib.repr(stop) for stop in stops if not STOP.fits([stop])), f"{len(stops)} texts")
        raise typer.BadParameter(f"{wrong} given, expected {STOP.expected}")
    return stops


def token_bias(word: str) -> tuple[str, float]:
    """The two sides of TOKEN=BIAS."""
    token, _, bias = typed(word).rpartition("=")
    try:
        if token:
            return token, -math.inf if bias == "-inf" else from_word(bias, BIAS)
    except InputError:
        pass
    raise typer.BadParameter(f"{reprlib.repr(word)} is not TOKEN=BIAS, with BIAS {BIAS.expected}")


def device_name(word: str) -> str:
    """A device as the core spells it (`_core.devices`), or a card by its number."""
    if re.fullmatch(r"auto|(cpu|cuda|metal)(:\d{1,4})?", word) is None:
        raise typer.BadParameter(f"{word!r} is not a device; expected one of {', '.join(DEVICES)}, or cuda:1")
    return word


def drafts(word: str) -> Any:
    """What typer calls with the word of --draft."""
    try:
        return read_drafts(word)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


Stop = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", callback=stop_strings, help="End the answer before this text. May be given again."),
]
LogitBias = Annotated[
    list[Any] | None,  # as token_bias gives them
    typer.Option(
        parser=token_bias, metavar="TOKEN=BIAS", help="Add to a token's logit; -inf: never. May be given again."
    ),
]
Logprobs = Annotated[
    int | None,
    typer.Option(
        parser=parsed_as(LOGPROBS),
        metavar="N",
        help="With --json: of each token and the N likeliest.",
        show_default=False,
    ),
]

Choices = Annotated[
    int,
    typer.Option("--n", parser=parsed_as(CHOICES), metavar="N", help="With --json: how many replies, side by side."),
]

ThinkBudget = Annotated[
    int | None,
    typer.Option(
        parser=parsed_as(THINKING_TOKENS),
        metavar="TOKENS",
        help="Think, for so many tokens at most, then answer.",
        show_default=False,
    ),
]
BreakLoops = Annotated[
    bool | None,
    typer.Option("--break-loops/--no-break-loops", help="End what repeats itself without end. Unset: yes."),
]

Context = Annotated[int, count("--ctx", help="Context in tokens; 0: the model's own, if it fits.")]
KvOrAuto = Annotated[
    Literal["f16", "q8", "k8v4", "q4", "auto"],
    typer.Option("--kv", help="How keys and values are kept; auto: the widest that fits."),
]
Cache = Annotated[float | None, gibibytes("Memory for points to go back to; unset: up to 1.", show_default=False)]
CacheDisk = Annotated[float, gibibytes("And disk, beyond that; 0: none.")]

Device = Annotated[
    str,
    typer.Option(
        "--device",
        parser=device_name,
        metavar="[auto|cpu|cuda|cuda:N|metal]",
        autocompletion=lambda: list(DEVICES),
        help="Where to compute; auto: the best device that is here; cuda:1: the second card.",
    ),
]
_THREADS: dict[str, Any] = {"high": MOST_THREADS, "help": "0: as many as this process may use."}
Threads = Annotated[int, count("--threads", "-t", **_THREADS)]
ThreadsInFull = Annotated[int, count("--threads", **_THREADS)]  # where -t is the type
Draft = Annotated[
    Any,  # as read_drafts gives it
    typer.Option(
        "--draft",
        parser=drafts,
        metavar="[auto|off|N]",
        autocompletion=lambda: ["auto", "off"],
        help="Tokens guessed for each pass to verify: as many as pay, none, or N. Never changes an answer.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="24G, 24GiB, 24GB, 24000M. Unset: what is free here.", show_default=False),
]
