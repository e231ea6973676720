"""`qwen35 plan`: answers, exit codes, and that what it recommends fits by its own account."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from random_model import super_block_config
from test_command_line import qwen35, refused
from tiny_checkpoints import Tiny, write
from typer.testing import CliRunner

from qwen35_local import _core, hub
from qwen35_local.api.opening import FLAGS, Opening, Wish
from qwen35_local.cli.app import app
from qwen35_local.errors import InputError
from qwen35_local.models.registry import SIZES
from qwen35_local.plan.subject import Extras, of_file
from qwen35_local.quantize import convert
from qwen35_local.quantize.synthetic import of_config, size_names
from qwen35_local.units import parse_bytes, parse_tokens, spelled

runner = CliRunner()


def plan(*arguments: str) -> tuple[int, dict[str, Any]]:
    run = runner.invoke(app, ["plan", *arguments, "--json"], catch_exceptions=False)
    return run.exit_code, json.loads(run.stdout)


@pytest.mark.parametrize("size", size_names())
def test_every_size_says_what_it_takes(size: str) -> None:
    code, found = plan(size, "--memory", "1000G", "--ctx", "262144", "--kv", "f16")
    assert code == 0
    assert found["fits"]
    assert found["nearest"] == []
    types = [row["type"] for row in found["plans"]]
    assert types == ["BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_XS"]
    totals = [row["total_bytes"] for row in found["plans"]]
    assert totals[:5] == sorted(totals, reverse=True)[:5]  # below them K_S and 0 take turns with the size
    for row in found["plans"]:
        assert row["total_bytes"] == sum(row["parts"].values())
        assert row["parts"]["kv"] == 262_144 * row["kv_bytes_per_token"]
        assert row["parts"]["vision"] == 0
        assert row["parts"]["mtp"] > 0 and row["parts"]["drafts"] > 262_144 * 1024
        assert row["parts"]["weights"] == sum(share["n_bytes"] for share in row["weights"])


def test_the_best_type_is_the_most_precise_that_fits() -> None:
    code, found = plan("35b-a3b", "--memory", "24G", "--ctx", "262144")
    rows = {row["type"]: row for row in found["plans"]}
    assert code == 0
    assert found["best_type"] == "Q4_K_M"
    assert [rows[type]["fits"] for type in ("Q5_K_M", "Q4_K_M", "Q4_0")] == [False, True, True]


@pytest.mark.parametrize(
    "arguments",
    [
        ("35b-a3b", "--type", "Q4_K_M", "--memory", "24G", "--ctx", "262144", "--kv", "f16"),
        ("35b-a3b", "--type", "Q5_K_M", "--memory", "24G", "--ctx", "1M"),
        ("27b", "--memory", "16G", "--ctx", "128k", "--mtp"),
        ("9b", "--memory", "5G", "--ctx", "64k", "--no-mtp"),
        ("35b-a3b", "--memory", "17G", "--ctx", "64k", "--draft", "off"),
        ("9b", "--type", "Q4_K_M", "--memory", "15000M", "--ctx", "262144", "--kv", "f16"),
        ("4b", "--memory", "2200M", "--vision"),
        ("397b-a17b", "--memory", "24GB"),
        ("9b", "--type", "BF16", "--memory", "21G", "--ctx", "300k", "--kv", "q8"),
    ],
    ids=lambda arguments: "-".join(arguments[:1] + arguments[2:3]),
)
def test_what_is_recommended_fits(arguments: tuple[str, ...]) -> None:
    code, found = plan(*arguments)
    assert code == 3
    assert not found["fits"]
    assert found["nearest"]
    assert len({choice["change"] for choice in found["nearest"]}) == len(found["nearest"])
    for choice in found["nearest"]:
        assert choice["command"][0] == "plan"
        again, answer = plan(*choice["command"][1:])
        assert again == 0, choice["command"]
        row = answer["plans"][0]
        names = ("model", "type", "kv", "context_tokens", "total_bytes")
        assert [row[name] for name in names] == [choice[name] for name in names]
        assert row["total_bytes"] <= found["memory_bytes"]


def test_the_nearest_choices_change_one_thing() -> None:
    _, found = plan("9b", "--type", "Q4_K_M", "--memory", "15000M", "--ctx", "262144", "--kv", "f16")
    asked = found["plans"][0]
    draft, kv, ctx, type, size = found["nearest"]
    assert (draft["change"], draft["kv"], draft["context_tokens"]) == ("draft", "f16", 262_144)
    assert draft["parts"]["drafts"] == draft["parts"]["mtp"] == 0 and draft["command"][-2:] == ["--draft", "off"]
    assert (kv["change"], kv["kv"], kv["context_tokens"]) == ("kv", "q8", 262_144)
    assert (ctx["change"], ctx["kv"], ctx["type"]) == ("ctx", "f16", "Q4_K_M")
    assert ctx["context_tokens"] == asked["longest_context_tokens"] < 262_144
    assert (type["change"], type["kv"], type["context_tokens"]) == ("type", "f16", 262_144)
    assert (size["change"], size["type"], size["context_tokens"]) == ("size", "Q4_K_M", 262_144)


def test_nothing_fits_into_nothing() -> None:
    code, found = plan("0.8b", "--memory", "1M")
    assert (code, found["best_type"], found["nearest"]) == (3, None, [])


def test_the_image_encoder_and_drafts_are_parts_of_their_own() -> None:
    asked = ("9b", "--type", "Q4_0", "--memory", "32G", "--ctx", "4096", "--kv", "f16")

    def parts(*more: str) -> dict[str, int]:
        return plan(*asked, *more)[1]["plans"][0]["parts"]  # type: ignore[no-any-return]

    drafting, off, bare = parts("--vision"), parts("--draft", "off"), parts("--no-mtp", "--draft", "off")
    assert drafting["vision"] == 2 * SIZES["Qwen3.5-9B"].vision.parameters
    assert {name for name in off if drafting[name] != off[name]} == {"vision", "mtp", "drafts"}
    assert drafting["drafts"] > 4096 * 4096  # keys and values of one layer
    assert drafting["mtp"] > bare["mtp"] == off["mtp"] == bare["drafts"] == off["drafts"] == 0
    copying = parts("--no-mtp")
    assert 0 < copying["drafts"] < 16 << 20 and copying["mtp"] == 0
    assert parts("--draft", "3") == parts() == parts("--mtp")


def test_drafts_of_many_conversations_count() -> None:
    """Each has keys and values of the block, and states, of its own."""
    one, four = (
        plan("0.8b", "--type", "Q4_0", "--memory", "2G", "--ctx", "4096", "--kv", "f16", *more)[1]["plans"][0]
        for more in ((), ("--parallel", "4"))
    )
    others = (four["kv_tokens"] - 4096) // 3
    states = one["parts"]["drafts"] - 4096 * 2048
    more = four["parts"]["drafts"] - one["parts"]["drafts"]
    assert 3 * others * 2048 < more < 3 * (others * 2048 + states)


def test_what_drafts_take_is_said() -> None:
    def told(*more: str) -> str:
        lines = runner.invoke(app, ["plan", "9b", "--type", "Q4_0", "--memory", "16G", *more]).stdout.splitlines()
        return "\n".join(line for line in lines if line.startswith((" MTP", " drafts")))

    assert "the block that drafts; --draft off leaves it in the file" in told()
    off = told("--ctx", "4096", "--kv", "q4", "--draft", "off")
    for word in ("left in the file: --draft off", "--draft auto takes"):
        assert word in off
    assert "as a file without it" in told("--no-mtp")
    both = [float(n) for n in re.findall(r" ([\d.]+) MiB", told("--ctx", "4096", "--kv", "q4"))]
    taken = re.search(r"--draft auto takes ([\d.]+) MiB", off)
    assert len(both) == 2 and taken is not None
    assert float(taken[1]) == pytest.approx(sum(both), abs=0.2)


def test_other_names_of_a_size() -> None:
    names = ("27b", "27B", "Qwen3.5-27B", "qwen3.6-27b")
    found = [plan(name, "--type", "Q4_0", "--memory", "32G")[1]["plans"] for name in names]
    assert found[1:] == found[:-1]


def test_a_file_is_planned_from_its_header(tmp_path: Path) -> None:
    made = of_config("tiny", super_block_config(), "Q4_K_M")
    made.write(tmp_path / "whole.gguf")
    made.write_header(tmp_path / "header.gguf")
    whole, header = (plan(str(tmp_path / name), "--memory", "1G")[1]["plans"] for name in ("whole.gguf", "header.gguf"))
    assert whole == header
    assert whole[0]["type"] == "Q4_K_M"
    assert whole[0]["file_bytes"] == made.n_bytes
    assert whole[0]["parts"]["weights"] == _core.Model(tmp_path / "whole.gguf").weight_bytes


def test_the_embedded_file_has_its_drafting_block() -> None:
    path = hub.embedded_model()
    _, found = plan(str(path), "--memory", "1G", "--ctx", "4096")
    parts = found["plans"][0]["parts"]
    assert parts["mtp"] > 0
    assert parts["weights"] + parts["mtp"] == _core.Model(path, drafts=8).weight_bytes
    run = runner.invoke(app, ["plan", str(path), "--no-mtp"])
    assert "has a multi-token-prediction block" in str(run.exception)


def test_a_checkpoint_folder_is_planned_from_its_configuration(tmp_path: Path) -> None:
    tiny = Tiny()
    write(tmp_path, tiny)
    code, found = plan(str(tmp_path), "--memory", "4G", "--type", "Q8_0")
    row = found["plans"][0]
    assert (code, row["model"], row["type"]) == (0, tmp_path.name, "Q8_0")
    convert(tmp_path, tmp_path / "made.gguf", "Q8_0")
    _, made = plan(str(tmp_path / "made.gguf"), "--memory", "4G")
    assert made["plans"][0]["parts"]["weights"] == row["parts"]["weights"]


def test_people_get_a_table() -> None:
    one = qwen35("plan", "35b-a3b", "--type", "Q4_K_M", "--memory", "32G", "--ctx", "1M", "--kv", "q4")
    assert one.returncode == 0
    for words in ("Qwen3.5-35B-A3B", "1,000,000 tokens", "5,760 bytes per token", "together", "of 32.00 GiB", "YaRN"):
        assert words in one.stdout
    assert "\x1b" not in one.stdout
    many = qwen35("plan", "27b", "--memory", "12G", "--ctx", "262144")
    assert many.returncode == 3
    for words in ("BF16", "IQ4_XS", "too much", "What fits", "qwen35 plan"):
        assert words in many.stdout


def test_without_a_size_it_is_this_machine() -> None:
    code, found = plan("0.8b", "--type", "Q4_0", "--ctx", "256")
    assert found["memory_source"] != "--memory"
    assert (code == 0) == (found["plans"][0]["total_bytes"] <= found["memory_bytes"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("9b", "--memory", "0"),
        ("9b", "--memory", "lots"),
        ("9b", "--memory", "8G", "--ctx", "2M"),
        ("9b", "--memory", "8G", "--ctx", "-1"),
        ("9b", "--memory", "8G", "--kv", "q2"),
        ("9b", "--memory", "8G", "--type", "Q9_9"),
        ("{file}", "--type", "Q4_0"),
        ("{file}", "--vision"),
        ("{folder}",),
    ],
)
def test_what_cannot_be_answered_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.json").write_text("{not json")
    places = {"file": str(hub.embedded_model()), "folder": str(tmp_path)}
    assert refused(qwen35("plan", *(argument.format(**places) for argument in arguments)))


def test_sizes_as_people_write_them() -> None:
    given = ("24G", "24GiB", "24 gib", "24GB", "24000M", "24000MB", "1.5T", "300", "300B")
    found = [parse_bytes("--memory", text) for text in given]
    assert found[:6] == [24 << 30] * 3 + [24_000_000_000, 24_000 << 20, 24_000_000_000]
    assert found[6:] == [3 << 39, 300, 300]
    assert [parse_tokens("--ctx", text) for text in ("262144", "256k", "256K", "1M", "1_000", "1,000")] == [
        262_144,
        262_144,
        262_144,
        1_000_000,
        1000,
        1000,
    ]
    for n_bytes in (24 << 30, 12345, (24 << 30) + 1):
        assert parse_bytes("--memory", spelled(n_bytes)) == n_bytes
    for text in ("", "G", "-1G", "1e3", "0", "24X", "iB", "24i", "9" * 30 + "G"):
        with pytest.raises(InputError, match="--memory"):
            parse_bytes("--memory", text)
    for text in ("", "k", "-1", "1.5M", "0", "1G", "9" * 30):
        with pytest.raises(InputError, match="--ctx"):
            parse_tokens("--ctx", text)


def test_chat_refuses_what_does_not_fit() -> None:
    run = qwen35("chat", "-p", "What is 1 + 1?", "--ctx", "200000", "--memory", "200M")
    assert refused(run)
    for words in ("200,000 tokens", "keys and values", "200.0 MiB", "--ctx ", "qwen35 plan", "--memory overrides"):
        assert words in run.stderr
    advice = int(run.stderr.partition("--ctx ")[2].split(".")[0].split(";")[0])
    followed = qwen35("chat", "-p", "What is 1 + 1?", "--ctx", str(advice), "--memory", "200M", "--max-tokens", "1")
    assert followed.returncode == 0, followed.stderr


def test_chat_shortens_a_context_that_nobody_asked_for() -> None:
    run = qwen35("chat", "-p", "What is 1 + 1?", "--memory", "200M", "--max-tokens", "1")
    assert run.returncode == 0
    assert "262,144 would not fit into 200.0 MiB" in run.stderr
    assert refused(qwen35("chat", "-p", "What is 1 + 1?", "--memory", "20M"))
    assert refused(qwen35("chat", "-p", "What is 1 + 1?", "--memory", "some"))


def test_a_stretched_context_is_said_aloud() -> None:
    run = qwen35("chat", "-p", "What is 1 + 1?", "--ctx", "393216", "--kv", "q4", "--max-tokens", "1")
    assert run.returncode == 0
    assert "beyond this model's own 262,144 YaRN stretches the positions 1.50 times" in run.stderr
    assert "YaRN" not in qwen35("chat", "-p", "What is 1 + 1?", "--ctx", "4096", "--max-tokens", "1").stderr
    refusal = qwen35("chat", "-p", "What is 1 + 1?", "--ctx", "2000000", "--memory", "1000G")
    assert refused(refusal) and "1048576" in refusal.stderr


def test_a_conversation_is_taken_up_in_the_format_it_was_kept_in() -> None:
    """Where that fits: what a machine has free changes from day to day."""
    path = hub.embedded_model()
    subject = of_file(path, _core.GgufFile(path, header=True), Extras(threads=1))

    def chosen(memory: str, first: str | None) -> str:
        wish = Wish(first_kv=first, memory_bytes=parse_bytes("--memory", memory))
        plan = Opening(wish, FLAGS, lambda text: None).plan(subject)
        assert plan is not None
        return plan.kv

    assert chosen("4G", None) == "f16"
    assert chosen("4G", "q8") == "q8"
    assert chosen("440M", None) == chosen("440M", "q8") == "k8v4"
    assert chosen("440M", "q4") == "q4"


def test_drafts_are_left_out_where_they_would_not_fit() -> None:
    """Where nobody asked for them. A context that nobody asked for is shortened before that."""
    path = hub.embedded_model()

    def opened(**wish: Any) -> tuple[int, int, list[str]]:
        notices: list[str] = []
        asked = Wish(device="cpu", threads=1, memory_bytes=300 << 20, **wish)
        with Opening(asked, FLAGS, notices.append).engine(path) as engine:
            return engine.model.drafts, engine.context_tokens, notices

    drafts, context, notices = opened(context_tokens=262_144)
    assert (drafts, context) == (0, 262_144)
    assert "nothing is drafted: what drafts take would not fit; --draft says otherwise" in notices
    drafts, context, notices = opened()
    assert drafts == 8 and 200_000 < context < 262_144 and not any("drafted" in notice for notice in notices)
    assert opened(context_tokens=262_144, draft="off")[:2] == (0, 262_144)
    with pytest.raises(InputError, match=r"What would fit: --draft off; .*ctx 2"):
        opened(context_tokens=262_144, draft=2)


def test_an_engine_takes_the_passes_of_its_plan() -> None:
    path = hub.embedded_model()
    subject = of_file(path, _core.GgufFile(path, header=True), Extras(threads=1))
    opening = Opening(Wish(device="cpu", threads=1, context_tokens=200), FLAGS, lambda text: None)
    plan = opening.plan(subject)
    assert plan is not None and plan.rows == 200
    with opening.engine(path) as engine:
        assert engine.model.pass_rows == engine._cached.chunk_tokens == 200


def test_a_model_too_large_for_a_machine_is_planned_for_others() -> None:
    code, found = plan("397b-a17b", "--type", "Q4_K_M", "--memory", "64G")
    assert code == 3
    layouts = {(each["format"], each["card"]): each for each in found["cluster"]}
    assert len(layouts) == 6
    weights = {each["format"]: each["weight_bytes"] for each in found["cluster"]}
    assert weights["BF16"] / 2 == pytest.approx(396.8e9, rel=1e-3)  # the text and the image encoder, without drafting
    assert 0.5 < weights["FP8"] / weights["BF16"] < 0.51 and 0.25 < weights["4-bit"] / weights["BF16"] < 0.29
    for each in found["cluster"]:
        card = {"80 GB": 79, "141 GB": 140}[each["card"]] << 30
        assert each["cards"] == each["tensor_parallel"] * each["pipeline_parallel"]
        assert each["weight_bytes"] < 0.9 * card * each["cards"] and each["context_tokens"] >= 262144
    two = layouts["BF16", "80 GB"]
    assert (two["tensor_parallel"], two["pipeline_parallel"]) == (8, 2)
    assert two["commands"][0] == "ray start --head --port 6379" and "pipeline-parallel-size 2" in two["commands"][2]
    assert not any("ray" in command for command in layouts["FP8", "80 GB"]["commands"])
    assert plan("35b-a3b", "--type", "BF16", "--memory", "8G")[1]["cluster"] is None  # one card would do
    assert plan("397b-a17b", "--type", "Q4_K_M", "--memory", "1T")[1]["cluster"] is None
