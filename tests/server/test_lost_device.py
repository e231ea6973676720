"""What clients and the log are told of a device that fails, and of one that stays away for a while."""

from collections.abc import Sequence

import httpx
import pytest
from serving import served

from qwen35_local import _core, hub
from qwen35_local.engine.cached_sequence import Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.live import Loaded
from qwen35_local.errors import DeviceError, Unavailable

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
ASKED = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/messages": {"model": "m", "messages": MESSAGES, "max_tokens": 4},
    "/api/chat": {"model": "m", "messages": MESSAGES, "stream": False},
    "/completion": {"prompt": "Hi", "n_predict": 4},
    "/v1/chat/completions/input_tokens": {"messages": MESSAGES},
}


@pytest.mark.parametrize("path", ASKED)
def test_every_request_tries_again_until_the_device_is_back(path: str) -> None:
    """It is the server's failure each time, not the request's, and the log says which."""
    absent = iter([Unavailable("no device"), OSError("no file"), None])

    def reload() -> Loaded:
        if error := next(absent):
            raise error
        return Loaded(_core.Model(hub.embedded_model(), threads=1), None, "again", "")

    def failing(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        if is_lost.pop():
            raise DeviceError("lost")
        return evaluate(model, parts)

    is_lost = [*[False] * 1000, True]
    engine = Engine(_core.Model(hub.embedded_model(), threads=1), evaluate=failing, reload=reload)
    with served(engine) as running, httpx.Client(base_url=running.url, timeout=60) as http:
        told = [http.post("/completion", json=ASKED["/completion"])]
        told += [http.post(path, json=ASKED[path]) for _ in range(3)]
        log = list(running.lines)
    assert [answer.status_code for answer in told] == [503, 503, 503, 200]
    reasons = [
        "the device failed: lost",
        *(f"the model could not be loaded again: no {what}" for what in ("device", "file")),
    ]
    for answer, reason, line in zip(told[:3], reasons, log, strict=False):
        assert reason in answer.text and "retry-after" in answer.headers
        assert line.endswith(f"({reason})")
