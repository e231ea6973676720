"""A model's file that is replaced under a running conversation: the state that is kept is the loaded model's, and the
next program, which loads another, takes none of it."""

from pathlib import Path

import pytest

from qwen35_local import _core, hub
from qwen35_local.api.opening import Wish
from qwen35_local.cli.model import open_engine
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session
from qwen35_local.cli.session_store import SessionStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "model.gguf"
    copy.write_bytes(hub.embedded_model().read_bytes())
    return copy


def replace(path: Path) -> None:
    """By another model of the same shapes, as `quantize --force` and a download do."""
    data = bytearray(path.read_bytes())
    tensor = next(t for t in _core.GgufFile(path).tensors if t.name == "output_norm.weight")
    data[tensor.offset : tensor.offset + tensor.n_bytes] = data[tensor.offset : tensor.offset + tensor.n_bytes][::-1]
    path.with_name("new").write_bytes(data)
    path.with_name("new").replace(path)


def start(path: Path) -> Repl:
    wish = Wish(memory_bytes=4 << 30, context_tokens=2048, threads=1)
    session = Session(open_engine(str(path), wish), name="talk", thinking=False)
    session.choose("temperature", "0")
    session.choose("max_tokens", "8")
    return Repl(session, SessionStore(path.parent / "sessions"))


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_replaced_file_takes_none_of_the_state(path: Path, is_replaced: bool) -> None:
    first = start(path)
    first.take("My name is Ann, and this is a sentence for the model to read.")
    if is_replaced:
        replace(path)
    first.session.engine.finish_idle()
    first.keep_state()

    second = start(path)
    assert second.store is not None
    reason = second.store.take(second.session, "talk")
    second.take("What is my name?")
    assert second.last is not None
    if is_replaced:
        assert reason is not None and "made by another model" in reason
        assert second.last.reuse.reused_tokens == 0
    else:
        assert reason is None
        assert second.last.reuse.reused_tokens > 20
    for repl in (first, second):
        repl.session.engine.close()
