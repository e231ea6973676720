"""The CUDA backend as a whole, where a card is here: one of NVIDIA's, or the one of tests/simt."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen35_local import Model, Sampling, _core
from qwen35_local._core import kernels
from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.plan.predict import kernels_per_token

pytestmark = pytest.mark.skipif(
    _core.devices()["cuda"] is not None, reason=f"no CUDA device: {_core.devices()['cuda']}"
)
VARIETIES = [{}, {"tied": True}, {"moe": True}, {"moe": True, "layers": 8}, {"heads": 12, "kv_heads": 1}]


def kernels_of(core: Any, sequence: Any, tokens: list[int]) -> int:
    before = core.launches
    sequence.append(tokens)
    return int(core.launches - before)


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_kernels_of_a_token(tiny: Callable[..., Any], variety: dict[str, Any], kv: str) -> None:
    """What predictions count: five a layer, six with experts, and the head with the last norm; a table that is the head
    too is read by a kernel of its own."""
    model = tiny(wide=True, dtype="Q8_0", **variety)
    core = _core.Model(model.path, device="cuda")
    sequence = _core.Sequence(core, kv=kv)
    sequence.append([1, 2, 3, 4, 5])
    for _ in range(2):
        assert kernels_of(core, sequence, [7]) == kernels_per_token(model.config)


def test_kernels_of_a_token_that_fills_a_page(tiny: Callable[..., Any]) -> None:
    """Keys are then appended by themselves, and the page is quantised: plain pages need neither."""
    model = tiny(wide=True, dtype="Q8_0")
    core = _core.Model(model.path, device="cuda")
    one = kernels_per_token(model.config)
    plain, quantised = _core.Sequence(core, kv="f16"), _core.Sequence(core, kv="q4")
    for sequence in (plain, quantised):
        sequence.append(list(range(250)) + [1] * 261)
    assert kernels_of(core, plain, [7]) == one
    assert kernels_of(core, quantised, [7]) == one + 2
    assert kernels_of(core, quantised, [7]) == one


@pytest.mark.parametrize("variety", [{}, {"moe": True, "mtp": True}], ids=str)
def test_a_replayed_graph_gives_the_bits_of_its_kernels(tiny: Callable[..., Any], variety: dict[str, Any]) -> None:
    """At every position of a page's end; a profile waits for each operation, so that nothing is captured."""
    path = tiny(**variety).path
    logits = []
    for profile in (False, True):
        sequence = _core.Sequence(_core.Model(path, device="cuda", profile=profile), kv="q8" if not variety else "f16")
        sequence.append(list(range(250)), chunk_tokens=97)
        logits.append([np.array(sequence.append([token])) for token in range(14)])
    assert all(np.array_equal(a, b) for a, b in zip(*logits, strict=True))


@pytest.mark.parametrize(("variety", "kv"), [({}, "q4"), ({"moe": True}, "f16")], ids=str)
def test_passes_of_2048_rows_give_the_bits_of_shorter_ones(
    tiny: Callable[..., Any], variety: dict[str, Any], kv: str
) -> None:
    core = _core.Model(tiny(**variety).path, device="cuda")
    assert core.pass_rows == 2048
    tokens = [7 * i % 60 for i in range(2060)]
    found = []
    for rows in (None, 333):
        sequence = _core.Sequence(core, kv=kv)
        sequence.append(tokens, logits="none", chunk_tokens=rows)
        found.append(np.array(sequence.append([5])))
    assert np.array_equal(*found)


def test_a_table_of_embeddings_stays_in_its_file(tiny: Callable[..., Any], tmp_path: Path) -> None:
    """One that is replaced stays as it was opened; one that is cut short, or written over, is refused."""
    whole = Path(tiny().path)
    expected = np.array(_core.Sequence(_core.Model(whole, device="cuda")).append([1, 2, 3]))
    replaced, cut, written = (tmp_path / name for name in ("replaced", "cut", "written"))
    sequences = []
    for path in (replaced, cut, written):
        path.write_bytes(whole.read_bytes())
        sequences.append(_core.Sequence(_core.Model(path, device="cuda")))
    tmp_path.joinpath("new").write_bytes(b"something else")
    tmp_path.joinpath("new").replace(replaced)
    os.truncate(cut, 0)
    os.utime(written, ns=(0, 10**18))
    assert np.array_equal(sequences[0].append([1, 2, 3]), expected)
    for sequence in sequences[1:]:
        with pytest.raises(FormatError, match="was changed while it was in use"):
            sequence.append([1, 2, 3])


@pytest.mark.parametrize("rows", [1024, 256])
def test_the_plan_covers_what_is_taken(tiny: Callable[..., Any], rows: int) -> None:
    model = tiny(wide=True, moe=True, dtype="Q4_K")
    file = _core.GgufFile(model.path)
    stored = tuple(Stored(t.name, t.shape, t.dtype, t.n_bytes) for t in file.tensors)
    config: ModelConfig = model.config
    footprint = DeviceFootprint(config, stored, vocabulary=config.vocabulary, device="cuda")
    context = 1500
    before = _core.device_memory("cuda").free
    core = _core.Model(model.path, device="cuda", context_tokens=context, pass_rows=rows)
    sequence = _core.Sequence(core, kv="q4")
    sequence.append([i % 60 for i in range(context)], logits="none")
    taken = before - _core.device_memory("cuda").free
    planned = footprint.parts(context, "q4", rows)
    assert planned.weights + planned.state <= taken <= planned.total - planned.program - planned.snapshots


@pytest.mark.skipif("QWEN35_SIMT" not in os.environ, reason="the driver of tests/simt counts what crosses its bus")
def test_a_row_of_logits_stays_on_the_card() -> None:
    """Of 248,320 logits, penalised, masked, with their log-sum-exp: what comes to the host is a number for every 64 of
    them and a list of 4,096 tokens, and what goes there is a bit for each."""
    driver = ctypes.CDLL(os.environ["QWEN35_SIMT"])
    driver.simt_get.restype = ctypes.c_long

    def crossed() -> tuple[int, int]:
        return driver.simt_get(b"to_host"), driver.simt_get(b"to_device")

    vocabulary = 248_320
    logits = np.random.default_rng(0).standard_normal((1, vocabulary)).astype(np.float32)
    device = kernels.Device("cuda", 1)
    edits = [(n, 1, 0.5) for n in range(0, 4000, 40)]
    one = np.zeros(vocabulary // 32, np.uint32)
    one[77] = 1 << 5
    many = np.full(vocabulary // 32, 0x7FFFFFFF, np.uint32)
    for allowed in (None, one, many):
        options: dict[str, Any] = {} if allowed is None else {"allowed": allowed}
        before = crossed()
        tokens, log_sum = device.top_k(logits, 40, edits, presence=1.0, log_sum=True, **options)
        to_host, to_device = (now - then for now, then in zip(crossed(), before, strict=True))
        assert to_host <= 4 * vocabulary // 64 + 8 * 4096 + 4 * len(edits) + 64
        row = logits.nbytes + 256  # which the test itself puts there
        assert to_device <= row + 4 * len(edits) + (0 if allowed is None else vocabulary // 8)
        assert len(tokens) == (1 if allowed is one else 40)
        assert abs(log_sum - np.log(np.exp(logits.astype(np.float64)).sum())) < 2.0**-20


def test_a_conversation_of_five_turns_is_the_cpus() -> None:
    """With the embedded model, greedy: the same words, read once."""
    asked = [
        "Hello! My name is Ann.",
        "What is the capital of France?",
        "What is 12 + 30?",
        "What is my name?",
        "Tell me a short story.",
    ]
    replies = {}
    for device in ("cpu", "cuda"):
        with Model.from_file(device=device, context_tokens=2048, threads=1) as model:
            messages: list[dict[str, str]] = []
            for question in asked:
                messages.append({"role": "user", "content": question})
                reply = model.chat(messages, sampling=Sampling(temperature=0.0), max_tokens=60)
                assert reply.usage.reused_tokens > 0 or len(messages) == 1
                messages.append({"role": "assistant", "content": reply.text})
            replies[device] = [message["content"] for message in messages[1::2]]
    assert replies["cuda"] == replies["cpu"]
