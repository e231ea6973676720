"""The tensor table: every tensor of a Qwen3.5 GGUF, its shape, and where its values come from in a checkpoint.

docs/architecture.md 2 to 5 and 8, as data. Shapes are written as numpy does, slowest dimension first.
Alphabet: D hidden, F feed-forward, V vocabulary rows, H query heads, G KV heads, Hk / Hv delta key / value heads,
Dk / Dv their widths, C conv channels, E experts.

Checkpoint names are canonical here: as in a text-only checkpoint without its `model.` prefix
(`layers.0.input_layernorm.weight`, `mtp.fc.weight`, `lm_head.weight`).
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import Enum

from qwen35_local.models.config import ModelConfig


class Change(Enum):
    """What happens to the values between checkpoint and GGUF."""

    NONE = "none"
    PLUS_ONE = "plus one"
    NEGATIVE_EXPONENTIAL = "-exp"


@dataclass(frozen=True, slots=True)
class HeadTiling:
    """Value heads go from grouped order (key head g, member i at g*r + i) to tiled order (at i*key_heads + g).

    Along `axis`, from index `start` to the end, in units of `width` indices per head."""

    axis: int
    start: int
    width: int
    key_heads: int
    members: int

    def source_heads(self) -> list[int]:
        """For each head of the GGUF, in order, the head of the checkpoint that it is."""
        return [g * self.members + i for i in range(self.members) for g in range(self.key_heads)]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of the GGUF.

    `source_shapes` lists every shape accepted in a checkpoint; all hold the same values in the same order.
    `half` is 0 or 1 for the gate or up half of a fused `gate_up_proj`. Where `source` is missing, `stack` names the
    tensor [E, F, D] of one half, as MLX saves it, and `member` one expert's own, with `{e}` for the expert."""

    name: str
    shape: tuple[int, ...]
    source: str
    source_shapes: tuple[tuple[int, ...], ...]
    change: Change = Change.NONE
    tiling: HeadTiling | None = None
    half: int | None = None
    stack: str | None = None
    member: str | None = None


# Put in front of a tensor's own name, any number of times, by transformers, MLX, PEFT and DDP.
_PREFIX = re.compile(r"^(?:(?:model|language_model|base_model|module)\.)+")
# Put anywhere by torch.compile, FSDP and activation checkpointing, which wrap a model or each of its layers.
_WRAPPER = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_VISION = re.compile(r"^(?:visual|vision_tower|vision_model|multi_modal_projector)\.")
_EXPERT_STACK = re.compile(r"\.(?:experts|switch_mlp)\.(gate_up|gate|up|down)_proj(?:\.weight)?$")
_IGNORED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")


def canonical_name(name: str) -> str:
    """A checkpoint's name for a tensor, however it was wrapped when it was saved, as the table spells it."""
    return _EXPERT_STACK.sub(r".experts.\1_proj", _unwrapped(name))


def is_vision(name: str) -> bool:
    """Whether a checkpoint's tensor belongs to the vision tower or its projector."""
    return _VISION.match(_unwrapped(name)) is not None


def is_ignored(name: str) -> bool:
    """Whether a checkpoint's tensor is a constant that the configuration implies."""
    return _IGNORED.search(name) is not None


def _unwrapped(name: str) -> str:
    return _PREFIX.sub("", _WRAPPER.sub("", name))


def tensor_table(config: ModelConfig) -> list[TensorSpec]:
    """Every tensor of the model in file order: embedding, output, then block by block, the MTP block last."""
    c = config
    table = [_plain("token_embd.weight", (c.vocabulary, c.hidden), "embed_tokens.weight")]
    table.append(_norm("output_norm.weight", c.hidden, "norm.weight"))
    if not c.embeddings_are_tied:
        table.append(_plain("output.weight", (c.vocabulary, c.hidden), "lm_head.weight"))
    for n in range(c.layers):
        table += _block(c, n, f"layers.{n}", recurrent=not c.is_full_attention(n))
    if c.mtp_layers:
        n = c.layers
        table += _block(c, n, "mtp.layers.0", recurrent=False)
        table += [
            _plain(f"blk.{n}.nextn.eh_proj.weight", (c.hidden, 2 * c.hidden), "mtp.fc.weight"),
            _norm(f"blk.{n}.nextn.enorm.weight", c.hidden, "mtp.pre_fc_norm_embedding.weight"),
            _norm(f"blk.{n}.nextn.hnorm.weight", c.hidden, "mtp.pre_fc_norm_hidden.weight"),
            _norm(f"blk.{n}.nextn.shared_head_norm.weight", c.hidden, "mtp.norm.weight"),
        ]
    return table


def gguf_shapes(config: ModelConfig, names: Container[str]) -> dict[str, tuple[int, ...]]:
    """The tensors that a GGUF of the model has, as one that lists `names` spells them: gate and up of the routed
    experts in one tensor, and an embedding and a head of the MTP block's own, where they are listed."""
    shapes = {spec.name: spec.shape for spec in tensor_table(config)}
    for n in range(config.block_count if config.is_moe else 0):
        fused = f"blk.{n}.ffn_gate_up_exps.weight"
        if fused in names:
            gate = shapes.pop(f"blk.{n}.ffn_gate_exps.weight")
            del shapes[f"blk.{n}.ffn_up_exps.weight"]
            shapes[fused] = (gate[0], 2 * gate[1], gate[2])
    if config.mtp_layers:
        for own in ("embed_tokens", "shared_head_head"):
            name = f"blk.{config.layers}.nextn.{own}.weight"
            if name in names:
                shapes[name] = (config.vocabulary, config.hidden)
    return shapes


def _plain(name: str, shape: tuple[int, ...], source: str) -> TensorSpec:
    return TensorSpec(name, shape, source, (shape,))


def _norm(name: str, width: int, source: str) -> TensorSpec:
    return TensorSpec(name, (width,), source, ((width,),), Change.PLUS_ONE)


def _block(c: ModelConfig, n: int, source: str, *, recurrent: bool) -> Iterator[TensorSpec]:
    yield _norm(f"blk.{n}.attn_norm.weight", c.hidden, f"{source}.input_layernorm.weight")
    yield from (
        _delta_net(c, f"blk.{n}", f"{source}.linear_attn")
        if recurrent
        else _attention(c, f"blk.{n}", f"{source}.self_attn")
    )
    yield _norm(f"blk.{n}.post_attention_norm.weight", c.hidden, f"{source}.post_attention_layernorm.weight")
    yield from _experts(c, f"blk.{n}", f"{source}.mlp") if c.experts else _dense(c, f"blk.{n}", f"{source}.mlp")


def _delta_net(c: ModelConfig, name: str, source: str) -> Iterator[TensorSpec]:
    members = c.delta_value_heads // c.delta_key_heads
    keys = 2 * c.delta_key_heads * c.delta_key_width
    values = c.delta_value_heads * c.delta_value_width

    def tiled(start: int, width: int, axis: int = 0) -> HeadTiling | None:
        return HeadTiling(axis, start, width, c.delta_key_heads, members) if members > 1 else None

    def spec(tensor: str, shape: tuple[int, ...], part: str, tiling: HeadTiling | None) -> TensorSpec:
        return TensorSpec(f"{name}.{tensor}", shape, f"{source}.{part}", (shape,), tiling=tiling)

    width, heads = c.delta_value_width, c.delta_value_heads
    channels, taps = keys + values, c.conv_taps
    yield spec("attn_qkv.weight", (channels, c.hidden), "in_proj_qkv.weight", tiled(keys, width))
    yield spec("attn_gate.weight", (values, c.hidden), "in_proj_z.weight", tiled(0, width))
    yield spec("ssm_beta.weight", (heads, c.hidden), "in_proj_b.weight", tiled(0, 1))
    yield spec("ssm_alpha.weight", (heads, c.hidden), "in_proj_a.weight", tiled(0, 1))
    yield TensorSpec(
        f"{name}.ssm_conv1d.weight",
        (channels, taps),
        f"{source}.conv1d.weight",
        ((channels, 1, taps), (channels, taps), (channels, taps, 1)),  # transformers, squeezed, MLX
        tiling=tiled(keys, width),
    )
    yield spec("ssm_dt.bias", (heads,), "dt_bias", tiled(0, 1))
    yield TensorSpec(
        f"{name}.ssm_a", (heads,), f"{source}.A_log", ((heads,),), Change.NEGATIVE_EXPONENTIAL, tiled(0, 1)
    )
    yield spec("ssm_norm.weight", (width,), "norm.weight", None)
    yield spec("ssm_out.weight", (c.hidden, values), "out_proj.weight", tiled(0, width, axis=1))


def _attention(c: ModelConfig, name: str, source: str) -> Iterator[TensorSpec]:
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    yield _plain(f"{name}.attn_q.weight", (2 * queries, c.hidden), f"{source}.q_proj.weight")
    yield _plain(f"{name}.attn_k.weight", (keys, c.hidden), f"{source}.k_proj.weight")
    yield _plain(f"{name}.attn_v.weight", (keys, c.hidden), f"{source}.v_proj.weight")
    yield _plain(f"{name}.attn_output.weight", (c.hidden, queries), f"{source}.o_proj.weight")
    yield _norm(f"{name}.attn_q_norm.weight", c.head_width, f"{source}.q_norm.weight")
    yield _norm(f"{name}.attn_k_norm.weight", c.head_width, f"{source}.k_norm.weight")


def _dense(c: ModelConfig, name: str, source: str) -> Iterator[TensorSpec]:
    yield _plain(f"{name}.ffn_gate.weight", (c.feed_forward, c.hidden), f"{source}.gate_proj.weight")
    yield _plain(f"{name}.ffn_up.weight", (c.feed_forward, c.hidden), f"{source}.up_proj.weight")
    yield _plain(f"{name}.ffn_down.weight", (c.hidden, c.feed_forward), f"{source}.down_proj.weight")


def _experts(c: ModelConfig, name: str, source: str) -> Iterator[TensorSpec]:
    yield _plain(f"{name}.ffn_gate_inp.weight", (c.experts, c.hidden), f"{source}.gate.weight")
    fused = ((c.experts, 2 * c.expert_feed_forward, c.hidden),)
    for half, part in enumerate(("gate", "up")):
        yield TensorSpec(
            f"{name}.ffn_{part}_exps.weight",
            (c.experts, c.expert_feed_forward, c.hidden),
            f"{source}.experts.gate_up_proj",
            fused,
            half=half,
            stack=f"{source}.experts.{part}_proj",
            member=f"{source}.experts.{{e}}.{part}_proj.weight",
        )
    down = (c.experts, c.hidden, c.expert_feed_forward)
    yield TensorSpec(
        f"{name}.ffn_down_exps.weight",
        down,
        f"{source}.experts.down_proj",
        (down,),
        member=f"{source}.experts.{{e}}.down_proj.weight",
    )
    width, shared = c.hidden, c.shared_expert_feed_forward
    yield TensorSpec(
        f"{name}.ffn_gate_inp_shexp.weight",
        (width,),
        f"{source}.shared_expert_gate.weight",
        ((1, width), (width, 1), (width,)),
    )
    yield _plain(f"{name}.ffn_gate_shexp.weight", (shared, width), f"{source}.shared_expert.gate_proj.weight")
    yield _plain(f"{name}.ffn_up_shexp.weight", (shared, width), f"{source}.shared_expert.up_proj.weight")
    yield _plain(f"{name}.ffn_down_shexp.weight", (width, shared), f"{source}.shared_expert.down_proj.weight")
