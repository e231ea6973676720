"""Which type each tensor gets, against the rules of llama-quantize worked out by hand for published sizes."""

import itertools
import math

import pytest

from qwen35_local.cli.quantize import TYPES
from qwen35_local.errors import InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES
from qwen35_local.models.tensors import tensor_table
from qwen35_local.quantize import recipe
from qwen35_local.quantize.allocate import ERRORS, Choice, allocate, n_bytes
from qwen35_local.quantize.llama_types import layer_of

SMALL = ModelConfig(  # the 0.8B with its MTP block
    vocabulary=248320,
    hidden=1024,
    layers=24,
    heads=8,
    kv_heads=2,
    delta_value_heads=16,
    feed_forward=3584,
    embeddings_are_tied=True,
    mtp_layers=1,
)
MOE = ModelConfig(  # the 35B-A3B with its MTP block
    vocabulary=248320,
    hidden=2048,
    layers=40,
    heads=16,
    kv_heads=2,
    delta_value_heads=32,
    experts=256,
    experts_per_token=8,
    expert_feed_forward=512,
    shared_expert_feed_forward=512,
    mtp_layers=1,
)


def tensors(config: ModelConfig) -> list[tuple[str, tuple[int, ...]]]:
    return [(spec.name, spec.shape) for spec in tensor_table(config)]


def types(config: ModelConfig, preset: str, recipe_name: recipe.Recipe = "llama") -> dict[str, str]:
    return recipe.Mixture(preset, recipe_name).assign(tensors(config), recipe.Model.of(config))


def size(config: ModelConfig, found: dict[str, str]) -> int:
    return sum(n_bytes(found[name], math.prod(shape)) for name, shape in tensors(config))


def layers(found: dict[str, str], part: str, dtype: str) -> list[int]:
    names = [name for name, given in found.items() if name.endswith(f".{part}.weight") and given == dtype]
    return sorted(int(name.split(".")[1]) for name in names)


# 25 blocks: n/8 = 3 (0 1 2), 7n/8 = 21 (21..24), and every third from 5 on.
MORE_BITS_OF_25 = [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23, 24]
# 41 blocks: n/8 = 5 (0..4), 7n/8 = 35 (35..40), and every third from 7 on.
MORE_BITS_OF_41 = [0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 35, 36, 37, 38, 39, 40]


@pytest.mark.parametrize(("preset", "base"), [("Q4_K_M", "Q4_K"), ("Q5_K_M", "Q5_K")])
@pytest.mark.parametrize(
    ("config", "more", "down"),
    [(SMALL, MORE_BITS_OF_25, ["ffn_down"]), (MOE, MORE_BITS_OF_41, ["ffn_down_exps", "ffn_down_shexp"])],
    ids=["dense", "moe"],
)
def test_medium_presets(preset: str, base: str, config: ModelConfig, more: list[int], down: list[str]) -> None:
    found = types(config, preset)
    values = sorted(layers(found, "attn_qkv", "Q6_K") + layers(found, "attn_v", "Q6_K"))
    assert values == more
    for part in down:
        assert layers(found, part, "Q6_K") == more
    for part in ("attn_q", "attn_k", "attn_output", "attn_gate", "ssm_out"):
        assert layers(found, part, base) == layers(found, part, base) != []
        assert not layers(found, part, "Q6_K")
    assert found["blk.3.attn_q.weight"] == base
    assert found[f"blk.{config.layers}.nextn.eh_proj.weight"] == base


def test_small_preset() -> None:
    found = types(SMALL, "Q4_K_S")
    assert layers(found, "ffn_down", "Q5_K") == [0, 1, 2]
    assert sorted(layers(found, "attn_qkv", "Q5_K") + layers(found, "attn_v", "Q5_K")) == [0, 1, 2, 3]
    assert set(found.values()) == {"F32", "Q4_K", "Q5_K", "Q6_K"}


def test_iq4_xs_lifts_values_and_not_the_first_downs_with_an_importance_matrix() -> None:
    found = types(SMALL, "IQ4_XS")
    assert layers(found, "ffn_down", "Q5_K") == []
    assert len(layers(found, "attn_qkv", "Q5_K")) == 18
    assert len(layers(found, "attn_v", "Q5_K")) == 7


@pytest.mark.parametrize("preset", recipe.FILE_TYPES)
def test_output_matrix(preset: str) -> None:
    base = recipe.FILE_TYPES[preset].base
    wanted = base if base in ("F32", "F16", "BF16", "Q8_0") else "Q6_K"
    assert types(SMALL, preset)["token_embd.weight"] == wanted
    assert types(MOE, preset)["output.weight"] == wanted
    assert types(MOE, preset)["token_embd.weight"] == base


@pytest.mark.parametrize("preset", recipe.FILE_TYPES)
def test_what_is_never_shrunk(preset: str) -> None:
    found = types(MOE, preset)
    kept = (
        "norm.weight",
        "ssm_a",
        "ssm_dt.bias",
        "ssm_conv1d.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight",
    )
    assert {dtype for name, dtype in found.items() if name.endswith(kept)} == {"F32"}


def test_help_lists_every_type() -> None:
    assert TYPES.split(", ") == list(recipe.FILE_TYPES)


def test_q4_0_lifts_the_first_downs_with_an_importance_matrix() -> None:
    assert layers(types(SMALL, "Q4_0"), "ffn_down", "Q4_1") == [0, 1, 2]


def test_three_bits() -> None:
    found = types(SMALL, "Q3_K_M")
    assert layers(found, "ffn_down", "Q5_K") == [0]
    assert layers(found, "ffn_down", "Q4_K") == list(range(1, 25))
    assert sorted(layers(found, "attn_qkv", "Q5_K") + layers(found, "attn_v", "Q5_K")) == [0, 1]
    assert layers(found, "attn_output", "Q4_K") == [3, 7, 11, 15, 19, 23, 24]
    assert layers(found, "ffn_up", "Q3_K") == list(range(25))


@pytest.mark.parametrize("preset", [name for name, kind in recipe.FILE_TYPES.items() if kind.more])
@pytest.mark.parametrize("name", SIZES)
def test_own_mixture_takes_no_more_bytes_than_llama_quantize(name: str, preset: str) -> None:
    config = SIZES[name].config
    own, theirs = size(config, types(config, preset, "qwen35")), size(config, types(config, preset))
    assert 0.998 * theirs < own <= theirs


def test_own_mixture_spends_bits_where_this_family_loses_most() -> None:
    found = types(SIZES["Qwen3.5-27B"].config, "Q4_K_M", "qwen35")
    assert {d for name, d in found.items() if "ssm_alpha" in name or "ssm_beta" in name} == {"F32"}
    assert {d for name, d in found.items() if name.startswith("blk.64.") and "norm" not in name} == {"Q8_0"}
    assert {d for name, d in found.items() if "ssm_out" in name} <= {"Q5_K", "Q6_K"}
    assert layers(found, "attn_q", "Q8_0") == [64]
    assert not layers(found, "ffn_up", "Q5_K")


def test_every_token_goes_through_the_shared_expert_and_few_through_another() -> None:
    found = types(SIZES["Qwen3.5-35B-A3B"].config, "Q4_K_M", "qwen35")
    bits = ["Q4_K", "Q5_K", "Q6_K", "Q8_0"]
    for part in ("gate", "up", "down"):
        for layer in range(40):
            shared, routed = (found[f"blk.{layer}.ffn_{part}_{kind}.weight"] for kind in ("shexp", "exps"))
            assert bits.index(shared) > bits.index(routed)


@pytest.mark.parametrize("name", [name for name, of in SIZES.items() if of.config.is_moe])
def test_what_every_token_reads_beside_experts_has_six_bits_in_a_file_of_four(name: str) -> None:
    """So that 35B-A3B reads 2.42 GB a token, and not 2.70 (docs/gpu.md)."""
    config = SIZES[name].config

    def beside(preset: str, **more: int) -> set[str]:
        found = recipe.Mixture(preset, **more).assign(tensors(config), recipe.Model.of(config))
        kept = ("ssm_alpha.weight", "ssm_beta.weight", "gate_inp.weight", "gate_inp_shexp.weight")
        return {
            found[name]
            for name, shape in tensors(config)
            if len(shape) == 2
            and name.startswith("blk.")
            and layer_of(name) < config.layers
            and not name.endswith((*kept, "ssm_conv1d.weight"))
        }

    assert beside("Q4_K_M") == {"Q6_K"}
    assert "Q8_0" not in beside("Q4_K_S") | beside("Q4_0") | beside("IQ4_XS") | beside("Q3_K_M")
    assert "Q8_0" in beside("Q5_K_M")
    whole = size(config, types(config, "Q6_K"))
    assert "Q8_0" in beside("Q4_K_M", target_bytes=whole)


def test_target_is_kept() -> None:
    config, model = SIZES["Qwen3.5-9B"].config, recipe.Model.of(SIZES["Qwen3.5-9B"].config)
    for bits in (4.1, 4.5, 5.5):
        found = recipe.Mixture(target_bpw=bits).assign(tensors(config), model)
        n_values = sum(math.prod(shape) for _, shape in tensors(config))
        assert 0.998 * bits < size(config, found) * 8 / n_values <= bits
    with pytest.raises(InputError, match="too few"):
        recipe.Mixture(target_bytes=1 << 30).assign(tensors(config), model)


def test_what_loses_least_pays_for_the_rest_and_even_steps_are_for_the_feed_forward() -> None:
    config = SIZES["Qwen3.5-9B"].config
    found = types(config, "Q4_K_S", "qwen35")
    assert layers(found, "ffn_up", "IQ4_XS")
    assert not layers(found, "ffn_down", "IQ4_XS") and not layers(found, "ssm_out", "Q4_K")
    found = types(config, "Q4_0", "qwen35")
    assert layers(found, "ffn_up", "Q4_0") == list(range(config.layers + 1))
    assert not any(layers(found, part, "Q4_0") != [config.layers] for part in ("attn_q", "attn_v", "attn_output"))
    assert not layers(found, "attn_qkv", "Q4_0") and layers(found, "attn_qkv", "IQ4_NL")


def test_the_preset_to_compare_a_target_with_is_the_largest_that_it_has_room_for() -> None:
    config, model = SIZES["Qwen3.5-9B"].config, recipe.Model.of(SIZES["Qwen3.5-9B"].config)
    exactly = size(config, types(config, "Q4_K_S", "qwen35"))
    for target, wanted in ((exactly, ["Q4_K_S"]), (exactly - 1, ["Q4_0"]), (1 << 30, [])):
        found = recipe.largest_preset_within(recipe.Mixture(target_bytes=target), tensors(config), model)
        assert [mixture.preset for mixture in found] == wanted


def test_types_by_pattern() -> None:
    model = recipe.Model.of(SMALL)
    mixture = recipe.Mixture("Q4_K_M", overrides={"*.ffn_down.*": "Q5_K", "blk.0.ffn_down.weight": "Q8_0"})
    found = mixture.assign(tensors(SMALL), model)
    assert layers(found, "ffn_down", "Q8_0") == [0]
    assert layers(found, "ffn_down", "Q5_K") == list(range(1, 25))
    with pytest.raises(InputError, match="no matrix is called 'nothing'"):
        recipe.Mixture(overrides={"nothing": "Q5_K"}).assign(tensors(SMALL), model)


def test_allocation_finds_what_trying_everything_finds() -> None:
    choices = [
        Choice("a", 1024, 2.0, ("Q4_K", "Q5_K", "Q6_K")),
        Choice("b", 2048, 0.3, ("Q4_K", "Q5_K", "Q6_K")),
        Choice("c", 512, 0.9, ("Q4_K", "Q5_K", "Q6_K")),
    ]

    def loss(found: dict[str, str]) -> float:
        return sum(c.sensitivity * ERRORS[found[c.name]] * c.n_values for c in choices)

    every = [
        {c.name: t for c, t in zip(choices, chosen, strict=True)}
        for chosen in itertools.product(*(c.types for c in choices))
    ]
    for found in every:
        budget = sum(n_bytes(found[c.name], c.n_values) for c in choices)
        within = [e for e in every if sum(n_bytes(e[c.name], c.n_values) for c in choices) <= budget]
        own = allocate(choices, budget)
        assert sum(n_bytes(own[c.name], c.n_values) for c in choices) <= budget
        # Greedy steps along the hull: within one tensor's step of the best.
        assert loss(own) <= min(map(loss, within)) + 2.0 * (ERRORS["Q4_K"] - ERRORS["Q5_K"]) * 1024


def test_unknown_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"Q3_K_XXL.*Q4_K_M"):
        recipe.file_type("Q3_K_XXL")
