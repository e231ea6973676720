"""What to calibrate with: texts of this package, or a file, as the model's own tokenizer and template make them."""

from itertools import islice
from pathlib import Path

import numpy as np

from qwen35_local.chat.template import Template
from qwen35_local.errors import FormatError, InputError, TemplateError
from qwen35_local.quantize.calibrate import DEFAULT_TOKENS, HELD_OUT, Texts, TextsFor, default_tokens
from qwen35_local.quantize.calibration import windows
from qwen35_local.quantize.plan import Metadata, Plan
from qwen35_local.text import plain_text
from qwen35_local.text.tokenizer import Tokenizer

BUILT_IN, NONE = "builtin", "none"
LENGTH = 512  # tokens of a text
_FEWEST = 16  # texts


def texts_from(source: str | Path | None, tokens: int | None = None) -> TextsFor:
    """At most `tokens` tokens (None: by the model's size) of the texts of this package (`BUILT_IN`; None: if the
    model's tokenizer can write them), or of a file of text. The result raises InputError, FormatError and OSError."""

    def texts_at_most(plan: Plan) -> int:
        return max(1, (default_tokens(plan) if tokens is None else tokens) // LENGTH)

    def built_in(plan: Plan) -> Texts:
        most = texts_at_most(plan)
        tokenizer, template = Tokenizer(plan.metadata), _template(plan.metadata)
        calibration = windows(tokenizer, template, LENGTH)
        held_out = windows(tokenizer, template, LENGTH, part="held_out")
        return Texts(np.stack([*islice(calibration, most)]), np.stack([*islice(held_out, -(-most // HELD_OUT))]))

    def built_in_if_possible(plan: Plan) -> Texts | None:
        try:
            return built_in(plan)
        except FormatError:
            return None

    def of_file(plan: Plan) -> Texts:
        most = texts_at_most(plan)
        ids = np.asarray(Tokenizer(plan.metadata).encode(plain_text.read(Path(str(source))).text), np.int32)
        if len(ids) < _FEWEST * LENGTH:
            raise InputError(
                f"{source}: {len(ids)} tokens; at least {_FEWEST * LENGTH} are needed to calibrate with, and "
                f"{DEFAULT_TOKENS} are better."
            )
        whole = ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)
        is_held_out = np.arange(len(whole)) % HELD_OUT == HELD_OUT - 1
        return Texts(whole[~is_held_out][:most], whole[is_held_out][: -(-most // HELD_OUT)])

    if source is None:
        return built_in_if_possible
    return built_in if source == BUILT_IN else of_file


def _template(metadata: Metadata) -> Template | None:
    try:
        return Template.for_file(metadata)
    except TemplateError:
        return None
