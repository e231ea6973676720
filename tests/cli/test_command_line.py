"""The program as a user or a script meets it: exit codes, streams, one clear message instead of a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from qwen35_local import hub
from qwen35_local.cli.app import app, run

Run = subprocess.CompletedProcess[str]


def qwen35(*arguments: str, stdin: str = "", **environment: str) -> Run:
    return subprocess.run(
        [sys.executable, "-m", "qwen35_local", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )


def refused(run: Run) -> bool:
    """Exit code 2, one message, no traceback, nothing on stdout."""
    return run.returncode == 2 and "Traceback" not in run.stderr and run.stderr.strip() != "" and run.stdout == ""


COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """Every option and argument is in the help, with words of its own."""
    run = qwen35(command, "--help", COLUMNS="200")
    assert run.returncode == 0
    shown = " ".join(run.stdout.split())
    for parameter in COMMANDS[command].params:
        assert parameter.help, f"{command}: {parameter.name} has no help"
        assert " ".join(parameter.help.split())[:20] in shown, parameter.name
        assert all(option in shown for option in parameter.opts if option.startswith("-")), parameter.name


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from qwen35_local.cli import app; "
        "print(*sorted({'numpy', 'tokenizers', 'jinja2', 'gguf', 'prompt_toolkit', 'rich', 'qwen35_local._core'} "
        "& set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_one_answer_is_on_stdout_and_thinking_on_stderr() -> None:
    run = qwen35("chat", "-p", "What is the capital of France?", "--think", "--temperature", "0")
    assert run.returncode == 0, run.stderr
    assert "Paris" in run.stdout
    assert "<think>" not in run.stdout
    assert run.stderr.strip() != ""


def test_a_budget_of_thinking() -> None:
    ask = ("chat", "-p", "What is 12 + 30?", "--temperature", "0", "--think-budget")
    run = qwen35(*ask, "6", "--json")
    *_, done = [json.loads(line) for line in run.stdout.splitlines()]
    assert done["notes"] == ["the thinking reached its budget of 6 tokens"]
    assert answer_of(run)
    assert "(the thinking reached its budget of 6 tokens)" in qwen35(*ask, "6").stderr
    assert refused(qwen35(*ask, "0"))
    assert refused(qwen35(*ask, "6", "--no-think"))


def test_an_answer_by_a_schema(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(
        '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}'
    )
    ask = ("chat", "-p", "What is 12 + 30?", "--temperature", "0")
    for option in (
        ("--schema", str(path)),
        ("--json-schema", path.read_text().replace(', "additionalProperties": false', "")),
    ):
        run = qwen35(*ask, *option)
        assert run.returncode == 0 and run.stdout.strip().startswith("{")
        assert json.loads(run.stdout)["n"] in (1, 2)
    run = qwen35(*ask, "--schema", '{"not": {}}')
    assert refused(run) and '["not"]' in run.stderr
    assert refused(qwen35(*ask, "--schema", str(tmp_path / "none.json")))


def test_text_on_stdin_comes_before_the_prompt() -> None:
    piped = qwen35("chat", "--temperature", "0", "--json", stdin="What is the capital of France?")
    given = qwen35("chat", "--temperature", "0", "--json", "-p", "What is the capital of France?")
    assert piped.returncode == given.returncode == 0
    assert answer_of(piped) == answer_of(given)


def test_json_is_one_event_per_line_and_the_last_is_done() -> None:
    run = qwen35("chat", "-p", "Hello!", "--json", "--temperature", "0")
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert {event["type"] for event in events} <= {
        "reasoning",
        "text",
        "tool_call_start",
        "tool_call_delta",
        "tool_call",
        "done",
    }
    assert [event["type"] for event in events].count("done") == 1
    last = events[-1]
    assert last["reason"] == "stop"
    usage = last["usage"]
    assert usage["prompt_tokens"] == usage["reused_tokens"] + usage["evaluated_tokens"]
    assert usage["generated_tokens"] > 0
    cache = {"reused_tokens": 0, "source": "", "evaluated_tokens": usage["prompt_tokens"]}
    assert last["cache"] == {**cache, "idle_tokens": 0, "difference": None, "reader": ""}


def test_same_seed_same_answer() -> None:
    runs = [qwen35("chat", "-p", "Tell me a short story.", "--seed", "7", "--json", "--max-tokens", "40") for _ in "ab"]
    assert answer_of(runs[0]) == answer_of(runs[1])


def test_max_tokens_ends_the_reply_and_says_so() -> None:
    run = qwen35("chat", "-p", "Tell me a short story.", "--max-tokens", "5", "--json", "--temperature", "0")
    last = json.loads(run.stdout.splitlines()[-1])
    assert last["reason"] == "length"
    assert last["usage"]["generated_tokens"] == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", "/nowhere/model.gguf", "-p", "hi"],
        ["chat", "-p", ""],
        ["chat", "-p", "hi", "--temperature", "-1"],
        ["chat", "-p", "hi", "--top-p", "2"],
        ["chat", "-p", "hi", "--tools", "/nowhere/tools.json"],
        ["chat", "-p", "hi", "--ctx", "8"],
        ["info", "/nowhere/model.gguf"],
        ["info", __file__],
        ["chat", __file__, "-p", "hi"],
        ["perplexity", "/nowhere/model.gguf", __file__],
        ["quantize", "/nowhere/checkpoint"],
        ["quantize"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_with_one_message(arguments: list[str]) -> None:
    assert refused(qwen35(*arguments))


def test_metadata_from_outside_is_shown_escaped(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen35")
    writer.add_name("evil\x1b]52;c;aGk=\x07 name\r\n\u202egnp")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    run = qwen35("info", str(path))
    assert run.returncode == 0, run.stderr
    assert not set("\x1b\x07\r\u202e") & set(run.stdout)
    assert r"\x1b]52" in run.stdout


def test_info_describes_the_embedded_model() -> None:
    run = qwen35("info", str(hub.embedded_model()), "--json")
    facts = json.loads(run.stdout)
    assert facts["architecture"] == "qwen35"
    assert facts["has_mtp"]
    assert facts["missing_tensors"] == facts["unexpected_tensors"] == []
    assert facts["template"]["name"] == "qwen3.5"
    assert 4 < facts["bits_per_weight"] < 6.5


def answer_of(run: Run) -> str:
    assert run.returncode == 0, run.stderr
    return "".join(e["text"] for e in map(json.loads, run.stdout.splitlines()) if e["type"] == "text")


def test_selftest_finds_nothing_wrong_with_the_embedded_model() -> None:
    run = qwen35("selftest", "--scenarios", "2", "--seed", "3")
    assert run.returncode == 0, run.stderr
    assert "2 conversations" in run.stdout
    assert "seeds 3 to 4" in run.stdout
    assert "replies written several at once" in run.stdout


@pytest.mark.parametrize("option", ["--continue", "--session=x"])
def test_scripts_have_no_conversation_to_continue(option: str) -> None:
    assert refused(qwen35("chat", "-p", "Hello!", option))


def test_a_wrong_way_of_being_full_is_refused() -> None:
    assert refused(qwen35("chat", "-p", "Hello!", "--when-full", "explode"))


def test_an_error_of_the_program_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(standalone_mode: bool) -> None:
        raise LookupError("no such thing")

    monkeypatch.setattr("qwen35_local.cli.app.app", fails)
    assert run() == 1
    assert capsys.readouterr().err.startswith("qwen35: an error of this program, LookupError: no such thing. ")
