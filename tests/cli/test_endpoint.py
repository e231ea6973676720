"""A conversation with a model behind another server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from upstream import Upstream, event, said, upstream

from qwen35_local.cli.app import app
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session
from qwen35_local.cli.session_store import SessionStore
from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["chat", *words])


def test_one_answer(server: Upstream, tmp_path: Path) -> None:
    server.script = [[event({"reasoning": "Hm"}), *said("Hello!")]]
    key = tmp_path / "key"
    key.write_text("a-secret-key\n")
    result = run("--endpoint", server.url, "--api-key-file", str(key), "-p", "Hi", "--think-budget", "50")
    assert result.exit_code == 0 and result.stdout == "Hello!\n"
    assert server.keys == ["Bearer a-secret-key"]
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": True}
    assert server.bodies[0]["thinking_token_budget"] == 50


def test_events(server: Upstream) -> None:
    result = run("--endpoint", f"{server.url}/v1", "--model", "Qwen3.5-397B-A17B", "-p", "Hi", "--json", "--no-think")
    *_, done = map(json.loads, result.stdout.splitlines())
    assert done["reason"] == "stop" and done["usage"]["prompt_tokens"] == 7
    assert server.bodies[0]["temperature"] == 0.7  # the card's, without thinking


@pytest.mark.parametrize(
    "words, told",
    [
        (["9b"], "MODEL: of a model on this machine"),
        (["--ctx", "100", "--device", "cpu"], "--ctx, --device: of a model on this machine"),
        (["--draft", "off"], "--draft: of a model on this machine"),
        (["--model", "other"], "has the models Qwen3.5-397B-A17B"),
        (["--schema", "{nonsense"], "no JSON"),
        (["--logit-bias", "Hello=1"], "known to http"),
    ],
)
def test_what_does_not_go_together(server: Upstream, words: list[str], told: str) -> None:
    result = run(*words, "--endpoint", server.url, "-p", "Hi")
    assert result.exit_code != 0 and told in str(result.exception)


def test_options_of_a_server_need_one() -> None:
    result = run("--model", "x", "-p", "Hi")
    assert "give its address with --endpoint" in str(result.exception)


def test_nobody_at_the_address() -> None:
    assert "cannot be reached" in str(run("--endpoint", "http://127.0.0.1:9", "-p", "Hi").exception)


def test_a_conversation(server: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SessionStore(tmp_path)
    repl = Repl(Session(RemoteEngine(Address(f"{server.url}/v1")), name="one"), store)
    server.script = [said("Hello!"), [b"data: x\n\n"], said("Four.")]
    for text in ("Hi", "and?", "2 + 2", "/why", "/stats"):
        repl.take(text)
    repl.keep_state()
    shown = capsys.readouterr().out
    assert "! http" in shown and "no chat completion" in shown  # and its question is taken back
    assert [message.text for message in repl.session.messages] == ["Hi", "Hello!", "2 + 2", "Four."]
    assert re.search(r"reused +3, from the cache of http", shown)
    assert "difference  not known here: http" in shown
    again = Session(RemoteEngine(Address(f"{server.url}/v1")))
    assert store.take(again, "one") is None and again.messages == repl.session.messages


def test_a_question_that_is_interrupted(
    server: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of how far the server has read."""
    engine = RemoteEngine(Address(f"{server.url}/v1"))
    repl = Repl(Session(engine, name="one"), SessionStore(tmp_path))
    server.script = [[30.0]]
    begin = engine._begin

    def cancelled(asked: Any, job: Any) -> None:
        begin(asked, job)
        job.cancel()

    monkeypatch.setattr(engine, "_begin", cancelled)
    repl.take("Hi")
    shown = capsys.readouterr().out
    assert "↑ brings it again)" in shown
    assert repl.session.messages == []
