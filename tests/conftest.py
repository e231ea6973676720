"""What holds for every test, and tiny random models, each written once per run."""

import ctypes
import os
import signal

# The matrices here are small: more BLAS threads would only wait for each other. Acts when numpy is not yet loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A shell ignores these for what it runs in the background or under nohup; the tests are about their own handlers.
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

# The CUDA driver of tests/simt: loaded before anything asks for one, it is found by its name, and its card is device
# "auto".
if "QWEN35_SIMT" in os.environ:
    ctypes.CDLL(os.environ["QWEN35_SIMT"], mode=ctypes.RTLD_GLOBAL)

# Property tests here are about all inputs, not about speed: a busy machine must not fail them. Under a
# sanitizer each input takes several times as long.
EXAMPLES = 20 if "QWEN35_SANITIZED" in os.environ else 60
settings.register_profile("qwen35", deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qwen35")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """tiny(wide=False, dtype="F32", fused=False, **config) gives a `RandomModel`; wide ones fit every tensor type."""
    from random_model import random_model, super_block_config, tiny_config

    written: dict[str, Any] = {}

    def make(*, wide: bool = False, dtype: str = "F32", fused: bool = False, seed: int = 0, **config: Any) -> Any:
        key = repr((wide, dtype, fused, seed, sorted(config.items())))
        if key not in written:
            shape = (super_block_config if wide else tiny_config)(**config)
            folder = tmp_path_factory.mktemp("model")
            written[key] = random_model(folder, shape, dtype=dtype, fused=fused, seed=seed)
        return written[key]

    return make
