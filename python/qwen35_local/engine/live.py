"""What an engine has on a device, which is lost when the device fails and made anew."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from qwen35_local import _core
from qwen35_local.engine.cache import Disk
from qwen35_local.engine.cached_sequence import CachedSequence
from qwen35_local.errors import DeviceError


class Loaded(NamedTuple):
    """A model that was loaded, and what else depends on the device that it is on (`Engine`)."""

    model: _core.Model
    disk: Disk | None
    identity: str
    device_note: str


class Live:
    """A model and the sequences that conversations are read on."""

    def __init__(self, model: _core.Model, begin: Callable[[_core.Model], CachedSequence]) -> None:
        """`begin` makes a sequence of which nothing was read."""
        self._begin = begin
        self._parts: tuple[_core.Model, list[CachedSequence]] | None = (model, [])
        self.has_failed = False

    @property
    def model(self) -> _core.Model:
        return self._held()[0]

    def slots(self, n: int) -> list[CachedSequence]:
        """The first `n` sequences, which are made when they are asked for."""
        model, slots = self._held()
        while len(slots) < n:
            slots.append(self._begin(model))
        return slots[:n]

    def _held(self) -> tuple[_core.Model, list[CachedSequence]]:
        if self._parts is None:
            raise DeviceError("the model could not be loaded again")
        return self._parts

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        try:
            yield
        except DeviceError:
            self.has_failed = True
            raise

    def replace(self, reload: Callable[[], Loaded]) -> Loaded:
        """Loads a model in the place of one whose device has failed. Raises what loading raises; there is no model
        then, and it can be tried again."""
        self.has_failed, self._parts = True, None
        gc.collect()  # a device that failed is only let go of when nothing of it is held
        loaded = reload()
        self._parts = loaded.model, []
        self.has_failed = False
        return loaded
