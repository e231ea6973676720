"""The tests of the benchmark, their arithmetic, and the profile; never how fast anything is."""

from pathlib import Path

import pytest
from random_model import super_block_config, tiny_config

from qwen35_local import _core
from qwen35_local.engine import machine, speed
from qwen35_local.engine.cost import cost
from qwen35_local.engine.profile import profile
from qwen35_local.engine.speed import Case, Run
from qwen35_local.errors import InputError
from qwen35_local.quantize.synthetic import of_config


def load(folder: Path, *, moe: bool = False, keeps_profile: bool = False, threads: int = 2) -> _core.Model:
    made = of_config("tiny", super_block_config(moe=moe), "Q4_K_M")
    made.write_header(folder / "header.gguf")
    return _core.Model(folder / "header.gguf", threads=threads, profile=keeps_profile, tensors=made.pattern)


def test_plan_is_prompts_then_depths_from_shallow_to_deep() -> None:
    names = [test.name for test in speed.plan([512, 64], 128, [4096, 0], [1, 4])]
    assert names == [
        "prefill 512",
        "prefill 64",
        "decode 128",
        "decode 128 x4",
        "verify 4",
        "decode 128 @ d4096",
        "decode 128 x4 @ d4096",
        "verify 4 @ d4096",
        "turn 32 @ d4096",
    ]


def test_each_format_of_keys_and_values_has_its_tests() -> None:
    names = [test.name for test in speed.plan([8], 2, [0, 40], [1], ["f16", "q4"])]
    assert names[:5] == ["prefill 8", "decode 2", "verify 4", "decode 2 @ d40", "verify 4 @ d40"]
    assert names[6:] == [
        "prefill 8 q4",
        "decode 2 q4",
        "verify 4 q4",
        "decode 2 @ d40 q4",
        "verify 4 @ d40 q4",
        "turn 32 @ d40 q4",
    ]


def test_zeros_leave_tests_out() -> None:
    assert [test.name for test in speed.plan([0], 0, [0, 100], [1])] == ["turn 32 @ d100"]
    assert speed.plan([0], 0, [0], [1]) == []


def test_every_test_runs_at_its_depth(tmp_path: Path) -> None:
    model = load(tmp_path)
    bench = speed.Bench(model)
    tests = speed.plan([70], 3, [0, 300], [1, 2], ["f16", "q8"])
    bench.check(tests)
    read: list[tuple[int, int]] = []
    for test in tests:
        bench.prepare(test, lambda done, total: read.append((done, total)))
        run = bench.run(test)
        assert run.seconds > 0
        assert run.tokens == {"prefill": 70, "decode": 3 * test.sequences, "verify": 4, "turn": 32}[test.kind]
        assert (run.one_token > 0) == (test.kind == "verify")
    assert [step for step in read if step[0] < step[1]] == 2 * [(0, 300)], "each context is read once"


def test_what_the_context_does_not_hold_is_refused(tmp_path: Path) -> None:
    bench = speed.Bench(load(tmp_path))
    with pytest.raises(InputError, match="decode 1 @ d4096 takes 4097 positions, and this model has 4096"):
        bench.check([Case("decode", 0, 1, 4096)])


def test_rates_are_medians_with_their_spread(tmp_path: Path) -> None:
    model_cost = cost(load(tmp_path))
    runs = [Run(seconds, 100) for seconds in (1.0, 2.0, 4.0)]
    rates = speed.rates(Case("decode", 0, 50, 10, 2), runs, model_cost)
    assert rates.tokens_per_s == 50
    assert rates.spread == pytest.approx((90 - 30) / 50)
    assert rates.gb_per_s == pytest.approx(25 * model_cost.decode_bytes(10 + 49 / 2, 2) / 1e9)
    assert rates.gops is None
    prompt = speed.rates(Case("prefill", 100, 0, 0), runs, model_cost)
    assert prompt.gops == pytest.approx(model_cost.prefill_operations(100) / 2 / 1e9)
    assert prompt.gb_per_s is None
    verify = speed.rates(Case("verify", 4, 4, 0), [Run(3.0, 4, 2.0)], model_cost)
    assert verify.one_token_ratio == 1.5


@pytest.mark.parametrize("moe", [False, True], ids=["dense", "moe"])
@pytest.mark.parametrize("threads", [1, 2])
def test_profile_sums_to_the_whole(tmp_path: Path, moe: bool, threads: int) -> None:
    phases = profile(load(tmp_path, moe=moe, keeps_profile=True, threads=threads), 40, 5, depth=10)
    assert [(phase.name, phase.tokens) for phase in phases] == [("prefill", 40), ("decode", 5)]
    for phase in phases:
        assert sum(part.seconds for part in phase.parts) == pytest.approx(phase.seconds)
        assert all(part.seconds >= 0 for part in phase.parts), "nothing is counted twice"
        names = {part.name for part in phase.parts}
        assert {"matmul", "delta", "attention", "norm", "head", "other"} <= names
        assert ("moe" in names) == moe
        assert ("sampling" in names) == (phase.name == "decode")
        if threads == 1:
            assert "waiting" not in names


def test_operations_are_counted(tmp_path: Path) -> None:
    model = load(tmp_path, keeps_profile=True)
    sequence = _core.Sequence(model)
    sequence.append([1, 2, 3])
    times = model.profile()
    layers, attention = 4, 1
    counts = {name: calls for name, (calls, _) in times.items()}
    assert counts["embed"] == counts["take_rows"] == counts["head"] == 1
    assert counts["rms_norm"] == 2 * layers + 1
    assert counts["matmul"] == layers
    assert counts["matmul_add"] == 2 * layers
    assert counts["gated_delta_net"] == layers - attention
    assert counts["attend"] == counts["norm_rope_append"] == attention
    assert counts["route"] == counts["moe_gather"] == counts["moe_combine"] == 0
    assert counts["waiting"] == sum(calls for name, calls in counts.items() if name != "waiting")
    model.reset_profile()
    assert set(model.profile().values()) == {(0, 0.0)}


def test_a_profile_changes_no_bit(tmp_path: Path) -> None:
    plain, profiled = (
        _core.Sequence(load(tmp_path, moe=True, keeps_profile=keeps)).append([1, 2, 3], logits="all")
        for keeps in (False, True)
    )
    assert (plain == profiled).all()


def test_without_profile_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="profile=True"):
        load(tmp_path).profile()


def test_weights_are_listed_as_packed(tmp_path: Path) -> None:
    config = tiny_config(tied=True)
    made = of_config("tiny", config, "Q8_0")
    made.write_header(tmp_path / "header.gguf")
    model = _core.Model(tmp_path / "header.gguf", threads=1, tensors=made.pattern)
    listed = {weight.name: (weight.rows, weight.cols) for weight in model.weights}
    assert set(listed) == {tensor.name for tensor in made.tensors}
    assert listed["token_embd.weight"] == (300, 96)
    assert listed["blk.0.ssm_conv1d.weight"] == (config.conv_channels, 4)
    assert listed["output_norm.weight"] == (1, 96)


@pytest.mark.parametrize(
    ("caches", "free", "expected"),
    [
        ({}, 0, 1 << 30),
        ({"L2": 4 << 20, "L3": 32 << 20}, 1 << 40, 1 << 30),
        ({"L3": 1000 << 20}, 1 << 40, 2500 << 20),
        ({"L3": 1000 << 20}, 1000 << 20, 400 << 20),
    ],
)
def test_buffer_is_above_the_cache_and_within_memory(caches: dict[str, int], free: int, expected: int) -> None:
    assert machine.buffer_bytes(caches, free) == expected


def test_machine_describes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "buffer_bytes", lambda caches, free: 1 << 20)
    found = machine.measure("cpu", 2).as_dict()
    assert found["cpu"] and found["isa"] == _core.isa()
    assert found["threads"] == 2
    for rate in ("read_gb_per_s", "int8_gops"):
        assert set(found[rate]) == {"one", "all"}
        assert min(found[rate].values()) > 0
    assert all(size > 0 for size in found["caches"].values())
