"""The images of the self-test: a few, some of which have the same size and so the same ids and positions."""

from collections.abc import Callable
from random import Random

import numpy as np

from qwen35_local import _core
from qwen35_local.chat.messages import Media
from qwen35_local.engine.model_input import input_rows
from qwen35_local.models.positions import grid_positions

_SIZES = ((3, 4), (3, 4), (4, 3), (1, 7))  # height and width of the grid of rows


def random_image(random: Random) -> Media:
    return Media("image", random.randrange(len(_SIZES)))


def image_rows(hidden: int) -> Callable[[Media], _core.InputRows]:
    """Gives an image of random_image() rows of `hidden` values, always the same."""

    def rows(image: Media) -> _core.InputRows:
        height, width = _SIZES[image.source]
        values = np.random.default_rng(image.source).standard_normal((height * width, hidden), np.float32)
        return input_rows(values, grid_positions(height, width).astype(np.int32))

    return rows
