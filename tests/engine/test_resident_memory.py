"""The plan against real loads: a process reads files of exact shapes, fills their context and says what it held."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from vocabularies import SPECIAL, byte_alphabet

from qwen35_local import _core
from qwen35_local.engine import machine
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.drafts import MOST_DRAFTS
from qwen35_local.models.memory import KV_FORMATS
from qwen35_local.models.registry import SIZES
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.plan.subject import Extras, of_file
from qwen35_local.quantize.synthetic import Synthetic, of_config, synthetic

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")

# The plan holds for every instruction set, and not every one touches all of the scratch that it counts.
_LEAST_SHARE, _MOST_SHARE = 0.95, 1.03

# Loads the file, reads so many tokens and writes a few; what the process held before is what the plan calls program.
LOAD = """
import json, sys
import numpy as np
from qwen35_local import _core
from qwen35_local.engine import engine, machine
from qwen35_local.models.draft_vocabulary import draft_tokens

path, context, kv, threads, drafts = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
program = machine.status_bytes("VmHWM")
file = _core.GgufFile(path)
model = _core.Model(
    file, threads=threads, context_tokens=context, drafts=drafts, draft_tokens=draft_tokens(file.tensors)
)
sequence = _core.Sequence(model, kv=kv)
tokens = np.random.default_rng(0).integers(0, model.n_vocab, context - 8).astype(np.int32)
for first in range(0, len(tokens), 512):
    logits = sequence.append(tokens[first : first + 512])
for token in range(4):
    drafted = [draft for draft, _ in model.draft([(sequence, token, 1)])[0]] if drafts else [0]
    sequence.append([token, *drafted], uncertain=drafts and len(drafted))
print(json.dumps({"program": program, "peak": machine.status_bytes("VmHWM"), "weights": model.weight_bytes}))
"""


def dense() -> Synthetic:
    """Much attention and a long context: half of it is keys and values."""
    config = replace(
        SIZES["Qwen3.5-0.8B"].config,
        mtp_layers=0,
        vocabulary=65_536,
        layers=4,
        full_attention_interval=2,
        heads=8,
        kv_heads=8,
        feed_forward=8192,
        eos_ids=(),
    )
    return of_config("dense", config, "Q4_K_M")


def experts() -> Synthetic:
    config = ModelConfig(
        vocabulary=65_536,
        hidden=1024,
        layers=4,
        heads=8,
        kv_heads=2,
        delta_value_heads=32,
        experts=64,
        experts_per_token=8,
        expert_feed_forward=512,
        shared_expert_feed_forward=512,
    )
    return of_config("experts", config, "Q4_0")


def drafting() -> Synthetic:
    """With the block that drafts, and rows of the head that are packed for it once more."""
    return of_config("drafting", replace(SIZES["Qwen3.5-0.8B"].config, layers=4), "Q5_K_M")


MODELS = {
    "dense": (dense, 6144),
    "experts": (experts, 2048),
    "0.8b:4": (lambda: synthetic("0.8b:4", "Q5_K_M"), 4096),
    "drafting": (drafting, 4096),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each model once, for all formats."""
    made: dict[str, tuple[Path, Synthetic, int]] = {}

    def write(name: str) -> tuple[Path, Synthetic, int]:
        if name not in made:
            make, context = MODELS[name]
            model = make()
            path = tmp_path_factory.mktemp("model") / "model.gguf"
            model.write(path)
            made[name] = (path, model, context)
        return made[name]

    yield write
    for path, _, _ in made.values():
        path.unlink()


@linux
@pytest.mark.weighs
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kv", KV_FORMATS)
def test_a_load_takes_what_was_planned(written: Any, name: str, kv: str) -> None:
    path, model, context = written(name)
    drafts = MOST_DRAFTS if model.config.mtp_layers else 0
    tensors = tuple(Stored(t.name, t.shape, t.dtype) for t in model.tensors)
    footprint = DeviceFootprint(model.config, tensors, vocabulary=0, threads=2, drafts=drafts)
    planned = footprint.memory(context, kv, snapshots=0)
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), str(context), kv, "2", str(drafts)],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(run.stdout)
    assert measured["weights"] == planned.weights + planned.mtp
    expected = planned.total - planned.program + measured["program"]
    print(f"planned {expected / 2**20:.1f} MiB, measured {measured['peak'] / 2**20:.1f} MiB")
    assert _LEAST_SHARE * expected <= measured["peak"] <= _MOST_SHARE * expected, planned


def limit(folder: Path, name: str, value: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{value}\n")


def test_control_groups_limit_memory(tmp_path: Path) -> None:
    """Both versions, the tightest ancestor, and files in the page cache as free as they are."""
    groups, mounts = tmp_path / "cgroup", tmp_path / "mounts"
    mounts.mkdir()
    groups.write_text("0::/user/session\n")
    assert machine.group_room(mounts, groups) is None
    for folder, most, used in ((mounts / "user", 8 << 30, 5 << 30), (mounts / "user/session", "max", 1 << 30)):
        limit(folder, "memory.max", most)
        limit(folder, "memory.current", used)
        limit(folder, "memory.stat", "anon 1\ninactive_file 1073741824")
    assert machine.group_room(mounts, groups) == 4 << 30
    groups.write_text("0::/\n")
    assert machine.group_room(mounts, groups) is None
    groups.write_text("3:cpu,cpuacct:/a\n5:memory:/docker/abc\n0::/\n")
    limit(mounts / "memory", "memory.limit_in_bytes", 2 << 30)
    limit(mounts / "memory", "memory.usage_in_bytes", 3 << 30)
    assert machine.group_room(mounts, groups) == 0
    limit(mounts / "memory", "memory.limit_in_bytes", 9223372036854771712)
    assert machine.group_room(mounts, groups) is None
    groups.write_text("nonsense\n\n:::\n")
    assert machine.group_room(mounts, groups) is None


@linux
def test_the_cache_of_zfs_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not in MemAvailable, and what it keeps at least is not free."""
    statistics = tmp_path / "arcstats"
    statistics.write_text(
        "13 1 0x01 147 39984 4315432 1093\nname type data\nhits 4 99\nc_min 4 1073741824\nsize 4 9663676416\n"
    )
    assert machine.zfs_cache(statistics) == 8 << 30
    statistics.write_text("name type data\nc_min 4 1073741824\nsize 4 1000\n")
    assert machine.zfs_cache(statistics) == 0
    assert machine.zfs_cache(tmp_path / "missing") == 0
    before, _ = machine.memory_bytes()
    monkeypatch.setattr(machine, "zfs_cache", lambda: 1 << 40)
    assert machine.memory_bytes()[0] > before + (1 << 39)


@linux
def test_an_address_space_limit_is_seen() -> None:
    code = (
        "import resource; from qwen35_local.engine import machine; "
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY)); print(machine.memory_budget())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_bytes, source = eval(run.stdout)
    assert 0 < n_bytes < 4 << 30
    assert source


def test_a_system_that_tells_nothing_limits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: (0, 0))
    monkeypatch.setattr(machine, "group_room", lambda: None)
    monkeypatch.setattr(machine, "_address_room", lambda mapped: None)
    assert machine.memory_budget() is None


class Named(Synthetic):
    """With a vocabulary of the family's size: byte tokens, words of two, four and six letters."""

    def _metadata(self) -> dict[str, object]:
        two = list(product(ascii_lowercase, ascii_lowercase))
        pairs = ["".join(pair) for pair in two]
        four = list(islice(product(pairs, pairs), 60_000))
        count = self.config.vocabulary - 256 - len(two) - len(four) - len(SPECIAL)
        six = list(islice(product(("".join(pair) for pair in four), pairs), count))
        merges = [" ".join(pair) for pair in two + four + six]
        tokens = byte_alphabet() + [merge.replace(" ", "") for merge in merges]
        metadata = super()._metadata()
        del metadata[f"{self.config.architecture}.vocab_size"]
        return metadata | {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "qwen35",
            "tokenizer.ggml.tokens": tokens + [token for token, _ in SPECIAL],
            "tokenizer.ggml.token_type": [1] * len(tokens) + [kind for _, kind in SPECIAL],
            "tokenizer.ggml.merges": merges,
            "tokenizer.ggml.eos_token_id": len(tokens) + 2,
        }


CHAT = """
import atexit, sys
from qwen35_local.cli.main import main
from qwen35_local.engine import machine

atexit.register(lambda: print(machine.status_bytes("VmHWM"), file=sys.stderr))
main()
"""


@linux
@pytest.mark.weighs
def test_a_conversation_takes_what_was_planned(tmp_path: Path) -> None:
    """The whole program with the 0.8B shape, its vocabulary and a context that is full, in the least memory it says it
    can do with."""
    model = synthetic("0.8b", "Q4_0")
    path, context = tmp_path / "model.gguf", 2048
    Named(**{field.name: getattr(model, field.name) for field in fields(model)}).write(path)
    subject = of_file(path, _core.GgufFile(path, header=True), Extras(threads=2))
    planned = subject.footprint.memory(context, "f16", budget=0)
    limits = ["--threads", "2", "--ctx", str(context), "--memory", str(planned.total), "--max-tokens", "100"]
    run = subprocess.run(
        [sys.executable, "-c", CHAT, "chat", str(path), "-p", "7" * 1900, "--json", "--no-think", *limits],
        capture_output=True,
        text=True,
        check=True,
    )
    usage = json.loads(run.stdout.splitlines()[-1])["usage"]
    assert usage["prompt_tokens"] > 1900
    measured = int(run.stderr.split()[-1])
    print(f"planned {planned.total / 2**20:.1f} MiB, measured {measured / 2**20:.1f} MiB")
    # Snapshots are what may be kept; a short conversation keeps fewer.
    assert _LEAST_SHARE * (planned.total - planned.snapshots) <= measured <= _MOST_SHARE * planned.total, planned
    assert measured - planned.weights - planned.kv - planned.state - planned.drafts - planned.snapshots < 300 << 20
