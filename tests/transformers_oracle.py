"""Models of the family in transformers, built from GGUF-named weights and computing in fp64 throughout.

The mapping from GGUF to checkpoint names is written out here on its own, so that it also checks the tensor table.
"""

import importlib
import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qwen35_local.models.config import ModelConfig

Weights = dict[str, NDArray[np.float32]]

torch.set_num_threads(1)  # the matrices are small: more threads would only wait for each other

FULL_ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
DENSE = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj"}
SHARED = {f"{gguf}_shexp": f"shared_expert.{hf}" for gguf, hf in DENSE.items()} | {"ffn_gate_inp": "gate"}


def widened(name: str) -> types.ModuleType:
    """transformers' modelling module `name` with every fp32 cast made fp64, so that rounding blurs nothing."""
    module = sys.modules.get(f"{name}_fp64")
    if module is None:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        source = re.sub(r"torch\.float(32)?\b", "torch.float64", source).replace(".float()", ".double()")
        module = types.ModuleType(f"{name}_fp64")
        module.__package__ = name.rpartition(".")[0]
        module.__file__ = spec.origin
        sys.modules[module.__name__] = module
        exec(compile(source, spec.origin, "exec"), module.__dict__)
    return module


def hf_config(config: ModelConfig) -> Any:
    """The transformers configuration object of a model."""
    from transformers.models.qwen3_5 import Qwen3_5TextConfig
    from transformers.models.qwen3_5_moe import Qwen3_5MoeTextConfig

    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": config.rope_theta,
        "partial_rotary_factor": config.rope_width / config.head_width,
        "mrope_section": list(config.rope_sections),
        "mrope_interleaved": True,
    }
    if config.yarn:
        rope["rope_type"] = "yarn"
        rope["factor"] = config.yarn.factor
        rope["original_max_position_embeddings"] = config.yarn.original_context_tokens
    common: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "linear_num_key_heads": config.delta_key_heads,
        "linear_num_value_heads": config.delta_value_heads,
        "linear_key_head_dim": config.delta_key_width,
        "linear_value_head_dim": config.delta_value_width,
        "linear_conv_kernel_dim": config.conv_taps,
        "full_attention_interval": config.full_attention_interval,
        "rms_norm_eps": config.rms_eps,
        "max_position_embeddings": config.context_tokens,
        "tie_word_embeddings": config.embeddings_are_tied,
        "rope_parameters": rope,
    }
    if not config.is_moe:
        return Qwen3_5TextConfig(**common, intermediate_size=config.feed_forward)
    return Qwen3_5MoeTextConfig(
        **common,
        num_experts=config.experts,
        num_experts_per_tok=config.experts_per_token,
        moe_intermediate_size=config.expert_feed_forward,
        shared_expert_intermediate_size=config.shared_expert_feed_forward,
        experts_implementation="eager",
    )


def modelling(config: ModelConfig) -> types.ModuleType:
    kind = "qwen3_5_moe" if config.is_moe else "qwen3_5"
    return widened(f"transformers.models.{kind}.modeling_{kind}")


def grouped(values: NDArray[np.float64], config: ModelConfig, width: int, start: int = 0) -> NDArray[np.float64]:
    """Rows from `start` on, `width` per value head, from GGUF order (i Hk + g) to checkpoint order (g r + i)."""
    keys = config.delta_key_heads
    members = config.delta_value_heads // keys
    heads = values[start:].reshape(members, keys, width, *values.shape[1:]).swapaxes(0, 1)
    return np.concatenate([values[:start], heads.reshape(values[start:].shape)])


def hf_block(weights: Weights, config: ModelConfig, block: int) -> dict[str, NDArray[np.float64]]:
    """One block's tensors under their checkpoint names, without the layer prefix."""
    prefix = f"blk.{block}."
    w = {name.removeprefix(prefix): a.astype(np.float64) for name, a in weights.items() if name.startswith(prefix)}
    out = {
        "input_layernorm.weight": w["attn_norm.weight"] - 1.0,
        "post_attention_layernorm.weight": w["post_attention_norm.weight"] - 1.0,
    }
    if config.is_full_attention(block):
        out |= {f"{hf}.weight": w[f"{gguf}.weight"] for gguf, hf in FULL_ATTENTION.items()}
        out |= {f"self_attn.{part}_norm.weight": w[f"attn_{part}_norm.weight"] - 1.0 for part in "qk"}
    else:
        width, keys = config.delta_value_width, 2 * config.delta_key_heads * config.delta_key_width
        out |= {
            "linear_attn.in_proj_qkv.weight": grouped(w["attn_qkv.weight"], config, width, keys),
            "linear_attn.in_proj_z.weight": grouped(w["attn_gate.weight"], config, width),
            "linear_attn.in_proj_b.weight": grouped(w["ssm_beta.weight"], config, 1),
            "linear_attn.in_proj_a.weight": grouped(w["ssm_alpha.weight"], config, 1),
            "linear_attn.conv1d.weight": grouped(w["ssm_conv1d.weight"], config, width, keys)[:, None],
            "linear_attn.dt_bias": grouped(w["ssm_dt.bias"], config, 1),
            "linear_attn.A_log": grouped(np.log(-w["ssm_a"]), config, 1),
            "linear_attn.norm.weight": w["ssm_norm.weight"],
            "linear_attn.out_proj.weight": grouped(w["ssm_out.weight"].T, config, width).T,
        }
    if not config.is_moe:
        return out | {f"mlp.{hf}.weight": w[f"{gguf}.weight"] for gguf, hf in DENSE.items()}
    out |= {f"mlp.{hf}.weight": w[f"{gguf}.weight"] for gguf, hf in SHARED.items()}
    return out | {
        "mlp.shared_expert_gate.weight": w["ffn_gate_inp_shexp.weight"][None],
        "mlp.experts.gate_up_proj": np.concatenate([w["ffn_gate_exps.weight"], w["ffn_up_exps.weight"]], axis=1),
        "mlp.experts.down_proj": w["ffn_down_exps.weight"],
    }


def hf_state(weights: Weights, config: ModelConfig) -> dict[str, NDArray[np.float64]]:
    """The whole checkpoint: text under `model.`, the MTP block under `mtp.`, `lm_head` unless tied."""
    state = {
        "model.embed_tokens.weight": weights["token_embd.weight"].astype(np.float64),
        "model.norm.weight": weights["output_norm.weight"].astype(np.float64) - 1.0,
    }
    if not config.embeddings_are_tied:
        state["lm_head.weight"] = weights["output.weight"].astype(np.float64)
    for block in range(config.layers):
        state |= {f"model.layers.{block}.{k}": v for k, v in hf_block(weights, config, block).items()}
    if config.mtp_layers:
        mtp = {k: v.astype(np.float64) for k, v in weights.items() if k.startswith(f"blk.{config.layers}.nextn.")}
        names = {"enorm": "pre_fc_norm_embedding", "hnorm": "pre_fc_norm_hidden", "shared_head_norm": "norm"}
        for gguf, hf in names.items():
            state[f"mtp.{hf}.weight"] = mtp[f"blk.{config.layers}.nextn.{gguf}.weight"] - 1.0
        state["mtp.fc.weight"] = mtp[f"blk.{config.layers}.nextn.eh_proj.weight"]
        state |= {f"mtp.layers.0.{k}": v for k, v in hf_block(weights, config, config.layers).items()}
    return state


def _tensors(state: dict[str, NDArray[np.float64]], prefix: str = "") -> dict[str, torch.Tensor]:
    chosen = {name: array for name, array in state.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): torch.tensor(array) for name, array in chosen.items()}


def build(weights: Weights, config: ModelConfig) -> Any:
    """The fp64 transformers model with these weights, strictly loaded."""
    module = modelling(config)
    kind = "Qwen3_5MoeForCausalLM" if config.is_moe else "Qwen3_5ForCausalLM"
    model = getattr(module, kind)(hf_config(config)).double().eval()
    state = {name: array for name, array in hf_state(weights, config).items() if not name.startswith("mtp.")}
    if config.embeddings_are_tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(_tensors(state))
    return model


def logits(model: Any, tokens: list[int], pieces: list[int] | None = None) -> NDArray[np.float64]:
    """Logits [T, V] of a prompt in one call, or fed in `pieces` through the model's own cache."""
    from transformers import DynamicCache

    with torch.no_grad():
        if pieces is None:
            return np.asarray(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0])
        cache, first, parts = DynamicCache(config=model.config), 0, []
        for piece in pieces:
            ids = torch.tensor([tokens[first : first + piece]])
            parts.append(model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0])
            first += piece
        return np.asarray(torch.cat(parts))


def rope_index(is_image: list[bool], grids: list[tuple[int, int, int]], merge: int) -> tuple[NDArray[np.int64], int]:
    """Positions [T, 3] and rope delta of a prompt whose images are grids (1, height, width) of patches, `merge` a
    side to a row: `get_rope_index`, called without the model around it."""
    module = importlib.import_module("transformers.models.qwen3_5.modeling_qwen3_5")
    model = types.SimpleNamespace(
        config=types.SimpleNamespace(vision_config=types.SimpleNamespace(spatial_merge_size=merge)),
        get_vision_position_ids=lambda *a, **k: module.Qwen3_5Model.get_vision_position_ids(None, *a, **k),
    )
    kinds = torch.tensor([is_image], dtype=torch.long)
    positions, delta = module.Qwen3_5Model.get_rope_index(model, kinds, kinds, torch.tensor(grids))
    return positions[:, 0].numpy().T.copy(), int(delta)


def mixed_logits(
    model: Any, tokens: list[int], places: dict[int, NDArray[np.float32]], positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Logits [T, V] of a prompt in one call: rows [n, D] stand in for the embeddings from each place on."""
    with torch.no_grad():
        embeddings = model.model.embed_tokens(torch.tensor([tokens]))
        for first, rows in places.items():
            embeddings[0, first : first + len(rows)] = torch.tensor(rows.astype(np.float64))
        ids = torch.tensor(positions.T[:, None])
        return np.asarray(model(inputs_embeds=embeddings, position_ids=ids, use_cache=False).logits[0])


def draft_logits(model: Any, weights: Weights, config: ModelConfig, tokens: list[int]) -> NDArray[np.float64]:
    """Logits [T - 1, V] of the MTP block, put together from transformers' layers: row i sees hidden i, token i + 1."""
    module, state = modelling(config), hf_state(weights, config)
    name = "Qwen3_5Moe" if config.is_moe else "Qwen3_5"
    full_attention = model.config.layer_types.index("full_attention")
    layer = getattr(module, f"{name}DecoderLayer")(model.config, layer_idx=full_attention).double().eval()
    layer.load_state_dict(_tensors(state, "mtp.layers.0."))
    norms = {}
    for part in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
        norms[part] = getattr(module, f"{name}RMSNorm")(config.hidden, eps=config.rms_eps).double()
        norms[part].load_state_dict(_tensors(state, f"mtp.{part}."))
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[:, :-1]
        embedded = model.model.embed_tokens(torch.tensor([tokens[1:]]))
        joined = torch.cat([norms["pre_fc_norm_embedding"](embedded), norms["pre_fc_norm_hidden"](hidden)], -1)
        x = joined @ torch.tensor(state["mtp.fc.weight"]).T
        count = x.shape[1]
        positions = model.model.rotary_emb(x, torch.arange(count).expand(3, 1, -1))
        mask = torch.full((count, count), float("-inf"), dtype=torch.float64).triu(1)[None, None]
        x = layer(x, position_embeddings=positions, attention_mask=mask)
        return np.asarray(model.lm_head(norms["norm"](x))[0])
