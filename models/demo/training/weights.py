"""The demo checkpoint folder: written as the family's checkpoints are, read back into the torch network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from .network import BALANCE_WEIGHT, DENSE, MIXTURE, Network, NetworkConfig
from .text import TEMPLATE, id_of, tokenizer_config

PREFIX = "model.language_model."


# A network this small rambles at the family's own temperature of 1.
SAMPLING = {"do_sample": True, "temperature": 0.3, "top_k": 20, "top_p": 0.9}


def model_config(c: NetworkConfig, eos: int, pad: int) -> dict[str, Any]:
    """config.json of the text-only form."""
    kinds = ["full_attention" if (i + 1) % c.interval == 0 else "linear_attention" for i in range(c.layers)]
    return {
        "architectures": ["Qwen3_5MoeForCausalLM" if c.experts else "Qwen3_5ForCausalLM"],
        "model_type": "qwen3_5_moe_text" if c.experts else "qwen3_5_text",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "eos_token_id": eos,
        "pad_token_id": pad,
        "full_attention_interval": c.interval,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "hidden_size": c.hidden,
        "initializer_range": 0.02,
        **(_expert_config(c) if c.experts else {"intermediate_size": c.ffn}),
        "layer_types": kinds,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": c.delta_dim,
        "linear_num_key_heads": c.key_heads,
        "linear_num_value_heads": c.value_heads,
        "linear_value_head_dim": c.delta_dim,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262144,
        "mtp_num_hidden_layers": c.draft_layers,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": c.heads,
        "num_hidden_layers": c.layers,
        "num_key_value_heads": c.kv_heads,
        "rms_norm_eps": c.eps,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
            "partial_rotary_factor": c.rotary / c.head_dim,
            "rope_theta": int(c.rope_theta),
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": c.vocab,
    }


def _expert_config(c: NetworkConfig) -> dict[str, Any]:
    return {
        "mlp_only_layers": [],
        "moe_intermediate_size": c.expert_ffn,
        "num_experts": c.experts,
        "num_experts_per_tok": c.experts_used,
        "router_aux_loss_coef": BALANCE_WEIGHT,
        "shared_expert_intermediate_size": c.shared_ffn,
    }


def tensors(network: Network) -> dict[str, torch.Tensor]:
    """The network's tensors under the family's names: bf16, the decay parameters fp32."""
    named = {}
    for name, value in network.state_dict().items():
        exact = name.endswith(("A_log", "linear_attn.norm.weight"))
        shown = name.replace("model.", PREFIX, 1) if name.startswith("model.") else name
        named[shown] = value.detach().to(torch.float32 if exact else torch.bfloat16).contiguous()
    return named


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write(folder: Path, network: Network, tokenizer: Tokenizer) -> None:
    """Writes a complete checkpoint folder, replacing an older one in a single rename."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    end, pad = (id_of(tokenizer, token) for token in ("<|im_end|>", "<|endoftext|>"))
    _write_json(fresh / "config.json", model_config(network.config, pad, pad))
    generation = {"eos_token_id": [end, pad], "pad_token_id": pad, **SAMPLING}
    _write_json(fresh / "generation_config.json", generation)
    _write_json(fresh / "tokenizer_config.json", tokenizer_config(tokenizer))
    tokenizer.save(str(fresh / "tokenizer.json"))
    shutil.copyfile(TEMPLATE, fresh / "chat_template.jinja")
    save_file(tensors(network), fresh / "model.safetensors", metadata={"format": "pt"})
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> tuple[Network, Tokenizer]:
    """The network (fp32 parameters) and tokenizer of a checkpoint folder."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    network = Network(MIXTURE if "num_experts" in config else DENSE)
    stored = load_file(folder / "model.safetensors")
    network.load_state_dict({name.replace(PREFIX, "model.", 1): value.float() for name, value in stored.items()})
    return network.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
