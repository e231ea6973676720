"""One meaning of MODEL in every command, with a model that really runs in another program's folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import LoopbackHub
from stores import Stores, gguf
from typer.testing import CliRunner, Result

from qwen35_local import _core
from qwen35_local.cli import question
from qwen35_local.cli.app import app
from qwen35_local.cli.info import describe
from qwen35_local.cli.model import find, header_of, model_path
from qwen35_local.errors import FormatError, InputError
from qwen35_local.hub import embedded_model

CHECKPOINT = Path(__file__).parents[2] / "models/demo/checkpoint"
runner = CliRunner()


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = runner.invoke(app, [*arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refusal(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        run(*arguments)
    return str(caught.value)


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("list", "--json").stdout)
    return found


@pytest.fixture
def ollama(disk: Stores) -> Path:
    """`qwen3.5:9b`, which is the demo model in truth; its blob has no ending."""
    return disk.ollama("registry.ollama.ai/library/qwen3.5:9b", embedded_model().read_bytes(), "Q4_K_M")


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "9b", "--json"),
        ("plan", "9b", "--json", "--memory", "4G", "--ctx", "1024"),
        ("perplexity", "9b", "{text}", "--against", "9b", "--json"),
        ("quantize", "9b", "{out}", "--type", "Q8_0", "--dry-run", "--allow-requantize", "--json"),
        ("chat", "9b", "-p", "Hello!", "--max-tokens", "4", "--json", "--temperature", "0"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_opens_a_model_by_its_name(ollama: Path, arguments: tuple[str, ...]) -> None:
    Path("text.txt").write_text("What is 27 + 45?")
    places = {"text": "text.txt", "out": "out.gguf"}
    done = run(*(argument.format(**places) for argument in arguments))
    assert f"9b: found in Ollama's folder: {ollama}" in done.stderr
    if arguments[0] in ("info", "plan"):
        found = json.loads(done.stdout)
        assert {"qwen35-demo"} == {found["name"] if arguments[0] == "info" else found["plans"][0]["model"]}
    if arguments[0] == "perplexity":
        assert json.loads(done.stdout)["distance"]["kl_max"] == 0


def test_bench_and_selftest_open_it_too(ollama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do with it is measured elsewhere and takes long."""
    from qwen35_local.cli import bench
    from qwen35_local.engine import machine, selftest
    from qwen35_local.engine.machine import Peak

    opened: list[object] = []
    monkeypatch.setattr(
        machine, "measure", lambda device, threads: machine.Machine("", "", 1, {}, 1, 1, Peak(1, 1), Peak(1, 1))
    )
    monkeypatch.setattr(bench, "measure", lambda subject, *_: opened.append(subject.path))
    monkeypatch.setattr(selftest, "run", lambda models, *_, **__: opened.append(models[0].config["name"]) or [])
    for command in ("bench", "selftest"):
        assert f"9b: found in Ollama's folder: {ollama}" in run(command, "9b").stderr
    assert opened == [ollama, "qwen35-demo"]


def test_a_checkpoint_of_the_hub_cache_is_converted_once_and_named(
    disk: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in CHECKPOINT.iterdir()}
    disk.hub("ann/Demo", files)
    facts = json.loads(run("info", "ann/Demo", "--json").stdout)
    assert (facts["name"], facts["gguf_version"], facts["architecture"]) == ("Demo", None, "qwen35")
    assert facts["template"]["name"] == "qwen3.5"
    plan = json.loads(run("plan", "ann/Demo", "--json", "--memory", "4G", "--ctx", "1024").stdout)
    assert ([row["type"] for row in plan["plans"]][:2], plan["plans"][0]["model"]) == (["BF16", "Q8_0"], "Demo")
    plan = json.loads(run("plan", "ann/Demo:Q8_0", "--json", "--memory", "4G", "--ctx", "1024").stdout)
    assert [row["type"] for row in plan["plans"]] == ["Q8_0"]
    asked = ("chat", "ann/Demo:Q8_0", "-p", "Hello!", "--max-tokens", "2")
    assert "converting" in run(*asked).stderr
    assert "converting" not in run(*asked).stderr
    ours = [row for row in listed() if row["is_ours"]]
    assert [(row["type"], row["store"]) for row in ours] == [("Q8_0", "ours")]
    assert ours[0]["name"].startswith("Demo-")
    assert json.loads(run("info", ours[0]["name"], "--json").stdout)["name"] == "Demo"
    assert "--yes" in refusal("rm", ours[0]["name"])
    monkeypatch.setattr(question, "can_ask", lambda: True)
    assert "Remove Demo-" in run("rm", ours[0]["name"], code=1, stdin="n\n").stderr
    assert [row for row in listed() if row["is_ours"]] == ours
    run("rm", ours[0]["name"], stdin="y\n")
    assert [row["name"] for row in listed()] == ["ann/Demo"]


def test_a_folder_with_one_gguf_is_that_gguf(disk: Stores) -> None:
    folder = Path("models")
    folder.mkdir()
    os.link(embedded_model(), folder / "demo.gguf")
    whole = json.loads(run("info", str(embedded_model()), "--json").stdout)
    assert json.loads(run("info", "models", "--json").stdout) == whole | {"file": "models/demo.gguf"}


def test_plan_of_a_size_that_is_not_here_needs_nothing(disk: Stores) -> None:
    every = json.loads(run("plan", "35b", "--json", "--memory", "1000G").stdout)["plans"]
    assert (len(every), every[0]["model"]) == (8, "Qwen3.5-35B-A3B")
    for arguments in (("35b:Q8_0",), ("35b-a3b", "--type", "q8_0")):
        found = json.loads(run("plan", *arguments, "--json", "--memory", "1000G").stdout)["plans"]
        assert [row["type"] for row in found] == ["Q8_0"]


def test_plan_of_a_type_that_is_not_the_one_on_the_disk(ollama: Path) -> None:
    found = json.loads(run("plan", "9b", "--type", "Q8_0", "--json", "--memory", "1000G").stdout)["plans"]
    assert [(row["model"], row["type"]) for row in found] == [("Qwen3.5-9B", "Q8_0")]


def test_plan_and_info_of_a_repository_read_its_header(disk: Stores, hub: LoopbackHub) -> None:
    demo = embedded_model().read_bytes()
    hub.add("ann/Demo-GGUF", {"Demo-Q4_K_M.gguf": demo + bytes(64 << 20)})
    facts = json.loads(run("info", "ann/Demo-GGUF", "--json").stdout)
    assert facts | {"file": "", "bytes": 0} == describe_demo() | {"file": "", "bytes": 0}
    assert (facts["file"], facts["bytes"]) == ("ann/Demo-GGUF/Demo-Q4_K_M.gguf", len(demo) + (64 << 20))
    plan = run("plan", "ann/Demo-GGUF", "--json", "--memory", "4G", "--ctx", "1024")
    assert "not on this disk; read from the beginning of Demo-Q4_K_M.gguf" in plan.stderr
    assert json.loads(plan.stdout)["plans"][0]["model"] == "qwen35-demo"
    assert hub.sent < len(demo)


def test_plan_and_info_of_a_checkpoint_read_its_configuration(disk: Stores, hub: LoopbackHub) -> None:
    hub.add("ann/Demo", {path.name: path.read_bytes() for path in CHECKPOINT.iterdir()})
    facts = json.loads(run("info", "ann/Demo", "--json").stdout)
    whole = describe_demo()
    assert {key: facts[key] for key in ("parameters", "layers", "has_mtp")} == {
        key: whole[key] for key in ("parameters", "layers", "has_mtp")
    }
    assert "16." in run("info", "ann/Demo").stdout
    plans = json.loads(run("plan", "ann/Demo", "--json", "--memory", "4G", "--ctx", "1024").stdout)["plans"]
    assert (len(plans), plans[0]["model"]) == (8, "Demo")


def describe_demo() -> dict[str, Any]:
    return describe(embedded_model(), _core.GgufFile(embedded_model()))


def test_chat_of_a_name_downloads_it_once_it_is_agreed_to(
    disk: Stores, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("unsloth/Qwen3.5-4B-GGUF", {"Qwen3.5-4B-Q4_K_M.gguf": embedded_model().read_bytes()})
    asked = ("chat", "4b", "-p", "Hello!", "--max-tokens", "2")
    assert "`qwen35 pull 4b --yes`" in refusal(*asked)
    monkeypatch.setattr(question, "can_ask", lambda: True)
    monkeypatch.setattr(question, "agreed", lambda text, is_advised: True)
    assert "4b in Q4_K_M: 7.28 MB, fits with" in run(*asked).stderr
    sent = hub.sent
    assert "4b: found in the hub's cache" in run(*asked).stderr
    assert hub.sent == sent
    assert [(row["name"], row["is_ours"]) for row in listed()] == [("unsloth/Qwen3.5-4B-GGUF:Q4_K_M", True)]
    run("rm", "4b", "--yes")
    assert listed() == []


def test_pull_says_what_another_program_has(ollama: Path, hub: LoopbackHub) -> None:
    hub.add("unsloth/Qwen3.5-9B-GGUF", {"Qwen3.5-9B-Q4_K_M.gguf": embedded_model().read_bytes()})
    assert f"9b: found in Ollama's folder: {ollama}" in run("pull", "9b", "--yes").stderr


def test_what_no_hub_can_be_asked_for_says_where_it_looked(disk: Stores, cache: Path) -> None:
    for command in (["info"], ["plan"], ["chat", "-p", "hi"]):
        message = refusal(command[0], "nobody/nothing", *command[1:])
        assert "not on this disk (looked in our own folder" in message and "127.0.0.1" in message
    assert "qwen35 pull 4b --convert" in refusal("quantize", "4b")


@pytest.mark.parametrize("ask", [model_path, lambda name: header_of(find(name))])
def test_a_model_that_is_here_in_part_is_said_once(
    disk: Stores, cache: Path, capsys: pytest.CaptureFixture[str], ask: Callable[[str], object]
) -> None:
    disk.ollama("registry.ollama.ai/library/qwen3.5:27b", b"x").unlink()
    with pytest.raises(InputError) as refused:
        ask("27b")
    assert (capsys.readouterr().err + str(refused.value)).count("`ollama pull qwen3.5:27b`") == 1


def test_a_checkpoint_whose_configuration_is_wrong_is_named(disk: Stores) -> None:
    folder = disk.checkpoint("Qwen/Qwen3.5-9B")
    for command in (["plan"], ["info"], ["quantize", "--dry-run"]):
        with pytest.raises(FormatError) as caught:
            run(command[0], str(folder), *command[1:])
        assert str(caught.value).startswith(f"{folder}/config.json: ")


def test_list(disk: Stores, ollama: Path) -> None:
    disk.hub("other/llama-GGUF", {"llama-Q4_K_M.gguf": gguf("l", "llama")})
    disk.lm_studio("evil/m/a\x1b[31m\nb-Q4_K_M.gguf")
    disk.ollama("registry.ollama.ai/library/qwen3.5:27b", b"x").unlink()
    shown = run("list")
    assert "not shown: 1 model of other families" in shown.stderr
    assert not set("\x1b\r") & set(shown.output)
    lines = shown.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["qwen3.5:27b", "-", "0", "bytes", "Ollama;", *lines[0].split()[5:]]
    assert "ollama pull qwen3.5:27b" in lines[0]
    assert lines[1].split() == ["qwen3.5:9b", "Q4_K_M", "7.28", "MB", "Ollama"]
    assert len(run("list", "--all").stdout.splitlines()) == 4
    row = next(row for row in listed() if row["name"] == "qwen3.5:9b")
    assert row == {
        "name": "qwen3.5:9b",
        "type": "Q4_K_M",
        "size": "Qwen3.5-9B",
        "repository": None,
        "bytes": embedded_model().stat().st_size,
        "path": str(ollama),
        "store": "Ollama",
        "is_checkpoint": False,
        "is_ours": False,
        "problem": None,
    }


def test_an_empty_list_says_where_it_looked(disk: Stores) -> None:
    shown = run("list")
    assert shown.stdout == "" and str(disk.ours) in shown.stderr and "qwen35 pull 9b" in shown.stderr


def test_a_name_that_means_two_things_is_refused_by_every_command(disk: Stores, ollama: Path) -> None:
    Path("9b").mkdir()
    for command in (["chat", "-p", "hi"], ["info"], ["plan"], ["quantize"], ["bench"], ["selftest"]):
        message = refusal(command[0], "9b", *command[1:])
        assert "./9b" in message and "qwen3.5:9b" in message
