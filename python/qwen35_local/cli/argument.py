"""The argument that names a model, alike in every command."""

from typing import Annotated

import typer

MODEL_HELP = (
    "A size (9b, qwen3.5:35b-a3b), a repository (OWNER/NAME, OWNER/NAME:TYPE), a GGUF, a checkpoint folder, or a name "
    "that `qwen35 list` shows"
)
DEMO_HELP = f"{MODEL_HELP}; nothing: the embedded demo."

ModelOrDemo = Annotated[str | None, typer.Argument(metavar="[MODEL]", help=DEMO_HELP, show_default=False)]
