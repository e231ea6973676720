"""`qwen35 bench` as a person or a script meets it, on models of a few kilobytes and a machine that is made up."""

import csv
import io
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from random_model import super_block_config

from qwen35_local.cli import main as program
from qwen35_local.engine import draft_bench, draft_cases, draft_skills, llama_bench, machine, speed
from qwen35_local.engine.machine import Machine, Peak
from qwen35_local.models.registry import SIZES, Size
from qwen35_local.quantize.synthetic import of_config

MACHINE = Machine("A CPU", "avx9", 2, {"L1d": 32 << 10, "L3": 1 << 20}, 1 << 34, 1 << 30, Peak(10, 20), Peak(100, 200))
SMALL = ["-p", "8,5", "-n", "2", "-d", "0,40", "-r", "2", "-t", "2"]
FAKE = """#!{python}
import json, os, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open({log!r}, "a") as log:
    log.write(json.dumps(given | {{"bytes": os.path.getsize(given["-m"])}}) + "\\n")
n_prompt, n_gen, n_depth = (int(given[flag]) for flag in ("-p", "-n", "-d"))
print(json.dumps([{{"build_commit": "f", "model_filename": given["-m"], "n_threads": int(given["-t"]),
    "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": n_depth, "avg_ns": 1, "stddev_ns": 0, "avg_ts": 50.0,
    "stddev_ts": 0.0, "samples_ns": [1], "samples_ts": [50.0]}}]))
"""

Outcome = tuple[int, str, str]
Bench = Callable[..., Outcome]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Bench:
    """Runs the command in this process; returns exit code, stdout and stderr."""
    shapes = super_block_config()
    sizes = {
        "Qwen3.5-tiny": Size("Qwen3.5-tiny", shapes, SIZES["Qwen3.5-0.8B"].vision, 0),
        "Qwen3.5-tiny-moe": Size("Qwen3.5-tiny-moe", super_block_config(moe=True), SIZES["Qwen3.5-0.8B"].vision, 0),
        "Qwen3.5-tiny-mtp": Size("Qwen3.5-tiny-mtp", super_block_config(mtp=True), SIZES["Qwen3.5-0.8B"].vision, 0),
    }
    for name, size in sizes.items():
        monkeypatch.setitem(SIZES, name, size)
    monkeypatch.setattr(machine, "measure", lambda device, threads: MACHINE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["qwen35", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        assert not list((tmp_path / "temporary").iterdir()), "nothing is left behind"
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A llama-bench that keeps a diary."""
    path = tmp_path / "llama-bench"
    path.write_text(FAKE.format(python=sys.executable, log=str(tmp_path / "log")))
    path.chmod(0o755)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    of_config("tiny | model", super_block_config(), "Q8_0").write(path)
    return path


def document(outcome: Outcome) -> dict[str, Any]:
    code, out, err = outcome
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


TESTS = [
    "prefill 8",
    "prefill 5",
    "decode 2",
    "decode 2 x4",
    "verify 4",
    "decode 2 @ d40",
    "decode 2 x4 @ d40",
    "verify 4 @ d40",
    "turn 32 @ d40",
]


def test_json_has_machine_models_and_rows(bench: Bench, model: Path) -> None:
    found = document(bench(model, "--synthetic", "tiny-moe:4", *SMALL, "-o", "json"))
    assert set(found) == {"machine", "models", "rows"}
    assert found["machine"]["read_gb_per_s"] == {"one": 10, "all": 20}
    assert found["machine"]["int8_gops"] == {"one": 100, "all": 200}
    assert {"cpu", "isa", "threads", "caches", "read_buffer_bytes", "memory_bytes"} <= set(found["machine"])
    names = ["tiny | model (random weights)", "Qwen3.5-tiny-moe:4 (random weights)"]
    assert [entry["model"] for entry in found["models"]] == names
    assert [entry["type"] for entry in found["models"]] == ["Q8_0", "Q4_K_M"]
    assert [entry["file"] for entry in found["models"]] == [str(model), None]
    for entry in found["models"]:
        assert entry["weight_bytes"] > 0 and entry["load_seconds"] > 0
    assert [(row["model"], row["name"]) for row in found["rows"]] == [(m, t) for m in names for t in TESTS]


def test_rows_say_what_they_are(bench: Bench, model: Path) -> None:
    for row in document(bench(model, *SMALL, "-o", "json"))["rows"]:
        assert (row["n_gen"] == 0) == (row["test"] == "prefill")
        assert (row["n_prompt"] == 0) == (row["test"] == "decode")
        assert row["repetitions"] == 2 and row["threads"] == 2
        assert row["tokens_per_s"] > 0 and row["seconds"] > 0 and row["spread"] >= 0
        assert (row["gb_per_s"] is None) != (row["gops"] is None)
        share = row["gops"] / 200 if row["gb_per_s"] is None else row["gb_per_s"] / 20
        assert row["percent_of_limit"] == pytest.approx(100 * share)
        assert (row["one_token_ratio"] is not None) == (row["test"] == "verify")
        assert row["ratio"] is row["llama_bench_tokens_per_s"] is None


@pytest.mark.parametrize("style", ["table", "md"])
def test_tables_show_every_test(bench: Bench, model: Path, style: str) -> None:
    code, out, err = bench(model, *SMALL, "--format", style)
    assert code == 0, err
    assert "A CPU" in out and "20.0 GB/s" in out and "200 Gop/s" in out
    assert "the time of one token" in out and "nothing evaluated again" in out
    if style == "table":
        assert [line.strip() for line in out.splitlines() if line.startswith("  test")]
        assert all(any(line.startswith(f"  {name:<20}") for line in out.splitlines()) for name in TESTS)
    else:
        rows = [line for line in out.splitlines() if line.startswith("| tiny")]
        assert [line.replace("\\|", "").split("|")[3].strip() for line in rows] == TESTS


def test_a_card_is_shown_with_its_own_rates(bench: Bench, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own: dict[str, Any] = {"caches": {"L2": 50 << 20}, "read_gb_per_s": Peak(None, 4000), "int8_gops": Peak(None, 9e5)}
    card = replace(MACHINE, device="cuda", card="A card", **own)
    monkeypatch.setattr(machine, "measure", lambda device, threads: card)
    code, out, err = bench(model, *SMALL)
    assert code == 0, err
    assert out.splitlines()[:4] == [
        "cuda: A card · L2 50 MiB",
        "beside A CPU · avx9, 2 threads",
        "reads 4000.0 GB/s of memory, buffer 1.1 GB",
        "multiplies 900,000 Gop/s of 8 bits",
    ]
    found = document(bench(model, *SMALL, "-o", "json"))
    assert (found["machine"]["card"], found["machine"]["read_gb_per_s"]) == ("A card", {"one": None, "all": 4000})
    assert all(
        row["percent_of_limit"] == pytest.approx(row["gb_per_s"] / 40) for row in found["rows"] if row["gb_per_s"]
    )


def test_lines_are_whole_by_themselves(bench: Bench, model: Path) -> None:
    _, lines, _ = bench(model, *SMALL, "-o", "jsonl")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["name"] for row in rows] == TESTS
    _, table, _ = bench(model, *SMALL, "-o", "csv")
    cells = list(csv.DictReader(io.StringIO(table)))
    assert [row["name"] for row in cells] == TESTS
    for row in (*rows, *cells):
        assert list(row) == list(rows[0])
        assert row["cpu"] == "A CPU" and float(row["read_gb_per_s"]) == 20


def test_output_goes_into_a_file(bench: Bench, model: Path, tmp_path: Path) -> None:
    small = ["-p", "4", "-n", "0", "-d", "0", "-r", "1"]
    code, out, _ = bench(model, *small, "-o", "json", "--output", tmp_path / "b.json")
    assert (code, out) == (0, "")
    assert [row["name"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]] == ["prefill 4"]


def test_without_a_model_it_is_the_embedded_one(bench: Bench) -> None:
    found = document(bench("-p", "4", "-n", "1", "-d", "0", "--batch", "1", "-r", "1", "-o", "json"))
    assert [entry["model"] for entry in found["models"]] == ["qwen35-demo"]


def test_profile_has_parts_that_sum_to_the_whole(bench: Bench, model: Path) -> None:
    found = document(bench(model, *SMALL, "--profile", "-o", "json"))
    assert [phase["phase"] for phase in found["profiles"]] == ["prefill", "decode"]
    for phase in found["profiles"]:
        assert sum(part["percent"] for part in phase["parts"]) == pytest.approx(100)
        assert sum(part["seconds"] for part in phase["parts"]) == pytest.approx(phase["seconds"])
    code, out, _ = bench(model, *SMALL, "--profile")
    assert code == 0 and "where the time of decode goes" in out and "matmul" in out
    code, out, _ = bench(model, *SMALL, "--profile", "-o", "md")
    assert code == 0 and "| decode | ms per token | share |" in out


def test_sides_take_turns_on_one_file(
    bench: Bench, fake: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"

    def run(self: speed.Bench, test: speed.Case) -> speed.Run:
        with log.open("a") as file:
            file.write(json.dumps({"ours": test.name}) + "\n")
        return speed.Run(1.0, 100, 1.0)

    monkeypatch.setattr(speed.Bench, "run", run)
    found = document(bench(model, *SMALL, "--against", fake, "-o", "json"))
    shared = {"prefill 8", "prefill 5", "decode 2", "decode 2 @ d40"}
    for row in found["rows"]:
        has_other = row["name"] in shared
        assert row["ratio"] == (2.0 if has_other else None)
        assert row["llama_bench_tokens_per_s"] == (50.0 if has_other else None)
    diary = [json.loads(line) for line in log.read_text().splitlines()]
    whose = ["ours" if "ours" in entry else "theirs" for entry in diary]
    assert whose[:4] == ["ours", "theirs"] * 2
    theirs = [entry for entry in diary if "ours" not in entry]
    sizes = [(entry["-p"], entry["-n"], entry["-d"]) for entry in theirs]
    assert sizes == [s for s in (("8", "0", "0"), ("5", "0", "0"), ("0", "2", "0"), ("0", "2", "40")) for _ in "ab"]
    assert all(entry["-m"] == str(model) and entry["-t"] == "2" and entry["-r"] == "1" for entry in theirs)


def test_formats_of_keys_and_values_are_measured_apart(bench: Bench, fake: Path, model: Path, tmp_path: Path) -> None:
    small = ["-p", "4", "-n", "2", "-d", "0,30", "-r", "1", "--batch", "1"]
    rows = document(bench(model, *small, "--kv", "f16,k8v4", "--against", fake, "-o", "json"))["rows"]
    assert [row["kv"] for row in rows] == ["f16"] * 6 + ["k8v4"] * 6
    assert rows[1]["name"] == "decode 2" and rows[7]["name"] == "decode 2 k8v4"
    theirs = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(entry.get("-ctk"), entry.get("-ctv")) for entry in theirs] == [(None, None)] * 3 + [("q8_0", "q4_0")] * 3
    code, _, err = bench(model, "--kv", "f16,q5")
    assert code == 2 and "--kv is 'f16,q5'" in err


def test_a_synthetic_model_is_a_file_for_both_and_gone_afterwards(bench: Bench, fake: Path, tmp_path: Path) -> None:
    found = document(bench("--synthetic", "tiny", *SMALL, "--against", fake, "-o", "json"))
    theirs = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {entry["-m"] for entry in theirs} == {found["models"][0]["file"]}
    assert theirs[0]["bytes"] > of_config("tiny", super_block_config(), "Q4_K_M").n_bytes
    code, out, _ = bench("--synthetic", "tiny", *SMALL, "--against", fake)
    assert code == 0 and "x llama-bench (50.00)" in out


DRAFTS = ["-n", "12", "-d", "0,40", "--batch", "1", "-r", "2", "-t", "1"]
DRAFT_TESTS = ["drafts 0.0 12", "drafts 0.9 12", "drafts 0.0 12 @ d40", "drafts 0.9 12 @ d40"]


def test_what_drafts_gain_is_a_row_each(bench: Bench, model: Path) -> None:
    found = document(bench(model, "--synthetic", "tiny-mtp:4", "--draft", "0,0.9", *DRAFTS, "-o", "json"))
    assert [entry["model"] for entry in found["models"]] == [
        "tiny | model (random weights)",
        "Qwen3.5-tiny-mtp:4 (random weights)",
    ]
    assert [row["name"] for row in found["rows"]] == 2 * DRAFT_TESTS
    for n, row in enumerate(found["rows"]):
        assert row["test"] == "given" and row["acceptance"] in (0.0, 0.9) and row["repetitions"] == 2
        assert row["depth"] in (0, 40) and row["n_gen"] == 12 and row["kv"] == "f16" and row["threads"] == 2
        for name in ("tokens_per_s", "off_tokens_per_s", "ratio", "off_ratio", "first_ratio", "ready_for_drafts"):
            assert row[name] > 0
        for name in ("pass_of_2", "pass_of_4", "pass_of_8"):
            assert row[name] > 0
        assert row["spread"] >= 0 and row["off_spread"] >= 0 and row["tokens_per_pass"] >= 1
        assert (row["draft_step"] is None) == (n < 4), "the first model has no block"
        assert (row["accepted_share"] is None) == (row["drafted"] == 0)
        assert row["accepted"] == 0 or row["acceptance"] == 0.9


@pytest.mark.parametrize("style", ["table", "md", "csv", "jsonl"])
def test_what_drafts_gain_in_every_format(bench: Bench, model: Path, style: str) -> None:
    code, out, err = bench(model, "--draft", "0,0.9", *DRAFTS, "-o", style)
    assert code == 0, err
    assert all(name in out for name in DRAFT_TESTS)
    if style == "table":
        assert out.count("passes of 2, 4, 8 rows: ") == 2, "once for each depth"
        rows = [line for line in out.splitlines() if line.startswith("  drafts")]
        assert all(line.endswith(" x") and len(line) < 120 and "first reply" in line for line in rows)
        assert next(line for line in out.splitlines() if line.startswith("  test")).split()[1:4] == [
            "tokens/s",
            "off",
            "ratio",
        ]
    elif style == "md":
        rows = [line for line in out.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    else:
        lines = out.splitlines()
        rows = [json.loads(line) for line in lines] if style == "jsonl" else list(csv.DictReader(io.StringIO(out)))
        assert [row["name"] for row in rows] == DRAFT_TESTS and len({tuple(row) for row in rows}) == 1


def test_the_embedded_model_is_measured_by_its_skills(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {skill: prompts[:1] for skill, prompts in draft_skills.SKILLS.items()}
    monkeypatch.setattr(draft_skills, "SKILLS", short)
    monkeypatch.setattr(draft_cases, "SKILLS", short)
    monkeypatch.setattr(draft_cases, "QUOTED_TOKENS", 100)
    rows = document(bench("--draft", "quote,skills", "-d", "0", "-r", "1", "-o", "json"))["rows"]
    skills = [(skill, temperature) for skill in short for temperature in (0.0, 1.0)]
    assert [(row["skill"], row["temperature"]) for row in rows[1:]] == skills
    assert (rows[0]["test"], rows[0]["n_prompt"], rows[0]["n_gen"]) == ("quote", 102, 100)
    assert {(row["test"], row["n_gen"]) for row in rows[1:]} == {("skill", None)}


def test_a_token_that_drafts_change_is_an_error(bench: Bench, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = draft_bench.DraftBench.prepare

    def prepare(self: draft_bench.DraftBench, *arguments: Any) -> None:
        original(self, *arguments)
        self._coming = [(token + 1) % 300 for token in self._coming]

    monkeypatch.setattr(draft_bench.DraftBench, "prepare", prepare)
    code, _, err = bench(model, "--draft", "0.5", *DRAFTS)
    assert code == 2
    assert "drafts 0.5 12, behind 0 tokens: drew " in err and "Traceback" not in err


def test_interruption_leaves_nothing(bench: Bench, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(llama_bench.LlamaBench, "tokens_per_s", interrupted)
    code, out, err = bench("--synthetic", "tiny", *SMALL, "--against", fake, "-o", "json")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'cannot load the model' >&2; exit 3", "exit code 3: cannot load the model"),
        ("exit 1", "exit code 1: it printed no reason"),
        ("echo '| model | size |'", "printed '| model | size |"),
        ("echo '[]'", "expected JSON with n_prompt 8"),
        ('echo \'[{"n_prompt": 8, "n_gen": 0, "n_depth": 0, "avg_ts": "fast"}]\'', "expected JSON"),
        ('echo \'[{"n_prompt": 9, "n_gen": 0, "n_depth": 0, "avg_ts": 1.0}]\'', "expected JSON"),
        ('echo \'[{"n_prompt": 8, "n_gen": 0, "n_depth": 0, "avg_ts": 0}]\'', "expected JSON"),
        ("echo '7'", "expected JSON"),
        ("exec cat /dev/zero", "prints more than 4 MiB"),
        ("yes loading | head -c 300000 >&2; echo 'no memory' >&2; exit 4", "exit code 4: no memory"),
        ('echo \'[{"n_prompt": 8, "n_gen": 0, "n_depth": 0, "avg_ts": NaN}]\'', "expected JSON"),
    ],
)
def test_a_llama_bench_that_fails_is_named(bench: Bench, model: Path, tmp_path: Path, script: str, said: str) -> None:
    path = tmp_path / "llama-bench"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    code, _, err = bench(model, *SMALL, "--against", path)
    assert code == 2
    assert err.startswith(f"qwen35: {path}: ") and said in err
    assert "Traceback" not in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "51x"], "--prompt is '51x'"),
        (["-p", "-4"], "--prompt is '-4'"),
        (["-d", ""], "--depth is ''"),
        (["--batch", "1,,2"], "--batch is '1,,2'"),
        (["-o", "sql"], "--format is 'sql'"),
        (["-p", "0", "-n", "0", "-d", "0"], "nothing to measure"),
        (["--profile", "-o", "csv"], "--profile does not fit"),
        (["--synthetic", "1b"], "no size '1b'; expected one of 0.8b"),
        (["--synthetic", "0.8b:3"], "'3' layers of Qwen3.5-0.8B; expected a multiple of 4"),
        (["--synthetic", "0.8b", "--type", "Q9"], "unknown type 'Q9'"),
        (["--against", "/nowhere/llama-bench"], "/nowhere/llama-bench: no such program"),
        (["/nowhere/model.gguf"], "no such file or folder"),
        ([__file__], "not a GGUF file"),
        (["-d", "4096", "-p", "0"], "4096; give a shorter"),
        (["--draft", "0.5,2"], "--draft has '2'; expected acceptances from 0 to 1, quote or skills"),
        (["--draft", "quote", "--profile"], "--draft compares with itself; leave --against and --profile out"),
        (["--draft", "skills", "--synthetic", "0.8b"], "a synthetic one has no tokenizer"),
        (["-d", "4096", "--draft", "0"], "4096; give a shorter"),
        (["--threads", "-1"], "--threads"),
        (["--repetitions", "0"], "--repetitions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_with_one_message(bench: Bench, model: Path, arguments: list[str], said: str) -> None:
    code, _, err = bench("-r", "1", *([model] if "4096" in arguments else []), *arguments)
    assert code == 2
    assert said in err and "Traceback" not in err


def test_every_file_is_looked_at_before_anything_is_measured(bench: Bench, model: Path) -> None:
    code, out, err = bench(model, __file__)
    assert (code, out) == (2, "")
    assert "not a GGUF file" in err


def test_a_model_larger_than_the_memory_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: (1 << 30, 1 << 32))
    code, _, err = bench("--synthetic", "27b")
    assert code == 2
    assert "27B as Q4_K_M takes" in err and "27b:8" in err
