"""Which type each tensor gets, against the rules of llama-quantize worked out by hand for published sizes."""

import pytest

from qwen35_local.cli.quantize import TYPES
from qwen35_local.errors import InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import tensor_table
from qwen35_local.quantize import recipe

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


def types(config: ModelConfig, preset: str) -> dict[str, str]:
    model = recipe.Model(config.block_count, config.heads // config.kv_heads, config.is_moe)
    return recipe.assign([(spec.name, spec.shape) for spec in tensor_table(config)], preset, model)


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
    assert set(found.values()) == {"F32", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}


def test_iq4_xs_lifts_values_and_the_first_downs() -> None:
    found = types(SMALL, "IQ4_XS")
    assert layers(found, "ffn_down", "Q5_K") == [0, 1, 2]
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
    if recipe.FILE_TYPES[preset].base not in ("F32", "F16", "BF16"):
        assert {d for name, d in found.items() if "ssm_alpha" in name or "ssm_beta" in name} == {"Q8_0"}


def test_help_lists_every_type() -> None:
    assert TYPES.split(", ") == list(recipe.FILE_TYPES)


def test_unknown_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"Q3_K_XXL.*Q4_K_M"):
        recipe.file_type("Q3_K_XXL")
