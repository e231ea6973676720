"""The Qwen3.5 text network in torch, with the tensor names of the family's checkpoints.

Shapes: B sequences, T tokens, D hidden, H query heads, G key/value heads, Hk / Hv delta key / value heads,
C conv channels, E experts, K of them per token.
Padding goes left of a prompt when generating (`mask` marks real tokens) and right of a sample when training, where
causality makes it harmless.
"""

# mypy: disable-error-code="misc,untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import delta


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network; everything a real Qwen3.5 fixes for the whole family is a constant in the code below."""

    vocab: int = 4096
    hidden: int = 256
    layers: int = 8
    ffn: int = 768
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 256
    key_heads: int = 2
    value_heads: int = 4
    delta_dim: int = 128
    rope_theta: float = 1e7
    rotary: int = 64
    interval: int = 4
    eps: float = 1e-6
    experts: int = 0
    experts_used: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    draft_layers: int = 1

    @property
    def conv_channels(self) -> int:
        return (2 * self.key_heads + self.value_heads) * self.delta_dim


DENSE = NetworkConfig()
BALANCE_WEIGHT = 0.01  # of the loss that keeps experts in use; large models get by with 0.001
MIXTURE = NetworkConfig(layers=4, ffn=0, experts=16, experts_used=4, expert_ffn=256, shared_ffn=256, draft_layers=0)


@dataclass
class LayerState:
    """What one layer carries between calls: KV [B,G,T,256] or conv window [B,3,C] and delta memory [B,Hv,128,128]."""

    keys: Tensor | None = None
    values: Tensor | None = None
    window: Tensor | None = None
    memory: Tensor | None = None


@dataclass
class State:
    """The state of a batch of sequences; `mask` [B,T] marks the real tokens seen so far."""

    layers: list[LayerState] = field(default_factory=list)
    mask: Tensor | None = None
    length: int = 0


def product_type(x: Tensor) -> torch.dtype:
    """The type projections compute in: under autocast, a norm's output is so converted once and not per projection."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype = torch.float32) -> Tensor:
    x = x.float()
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * (1.0 + weight.float())).to(dtype)


def gated_rms_norm(x: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Norm first, gate second: x [B,Hv,T,128] of the delta rule, gate [B,T,Hv,128]; returns [B,T,Hv*128]."""
    return (rms_norm(x.transpose(1, 2), weight - 1.0, eps) * F.silu(gate.float())).flatten(2).to(gate.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


def conv_silu_split(u: Tensor, w: Tensor, heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Causal convolution of u [B,T+3,C] with w [C,4], SiLU, then normalised q, k [B,Hk,T,128] and v [B,Hv,T,128]."""
    length = u.shape[1] - 3
    mixed = u[:, :length] * w[:, 0]
    for j in range(1, 4):
        mixed = mixed + u[:, j : j + length] * w[:, j]
    mixed = F.silu(mixed.float())
    rest = u.shape[2] - 2 * heads * width
    q, k, v = (
        t.unflatten(-1, (-1, width)).transpose(1, 2) for t in mixed.split([heads * width, heads * width, rest], -1)
    )
    return (l2_norm(q) * width**-0.5).contiguous(), l2_norm(k).contiguous(), v.contiguous()


def gates(a: Tensor, b: Tensor, a_log: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor]:
    """beta and log decay [B,Hv,T] from the projections a, b [B,T,Hv]."""
    g = -a_log.float().exp() * F.softplus(a.float() + dt_bias.float())
    return b.float().sigmoid().transpose(1, 2), g.transpose(1, 2)


def rotated(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """Norm and partial NeoX rotation of x [B,H,T,256]; cos and sin [T,32]; the result has the type of x."""
    half = cos.shape[-1]
    y = rms_norm(x, weight, eps)
    a, b, rest = y[..., :half], y[..., half : 2 * half], y[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1).to(x.dtype)


def l2_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def fuse() -> None:
    """Compiles the elementwise parts, shapes dynamic: about twice the training speed on a CPU; needs a C++ compiler."""
    for part in (rms_norm, gated_rms_norm, swiglu, conv_silu_split, gates, rotated):
        globals()[part.__name__] = torch.compile(part, dynamic=True)
    delta.within_chunks = torch.compile(delta.within_chunks, dynamic=True)


class Norm(nn.Module):
    """RMSNorm with a zero-centred weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps, product_type(x))


class GatedNorm(nn.Module):
    """RMSNorm with a plain weight, then a SiLU gate."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return gated_rms_norm(x, gate, self.weight, self.eps)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A projection without bias."""
    return nn.Linear(inputs, outputs, bias=False)


class DeltaNet(nn.Module):
    """Gated DeltaNet mixer."""

    def __init__(self, c: NetworkConfig) -> None:
        super().__init__()
        self.c = c
        width = c.value_heads * c.delta_dim
        self.in_proj_qkv = linear(c.hidden, c.conv_channels)
        self.in_proj_z = linear(c.hidden, width)
        self.in_proj_b = linear(c.hidden, c.value_heads)
        self.in_proj_a = linear(c.hidden, c.value_heads)
        self.conv1d = nn.Conv1d(c.conv_channels, c.conv_channels, 4, groups=c.conv_channels, bias=False)
        self.dt_bias = nn.Parameter(torch.zeros(c.value_heads))
        self.A_log = nn.Parameter(torch.zeros(c.value_heads))
        self.norm = GatedNorm(c.delta_dim, c.eps)
        self.out_proj = linear(width, c.hidden)

    def forward(self, x: Tensor, state: LayerState | None) -> Tensor:
        c, (batch, length, _) = self.c, x.shape
        u = self.in_proj_qkv(x)
        window = (
            u.new_zeros(batch, 3, u.shape[-1]) if state is None or state.window is None else state.window.to(u.dtype)
        )
        extended = torch.cat([window, u], 1)
        q, k, v = conv_silu_split(extended, self.conv1d.weight[:, 0].to(u.dtype), c.key_heads, c.delta_dim)
        beta, g = gates(self.in_proj_a(x), self.in_proj_b(x), self.A_log, self.dt_bias)
        memory = x.new_zeros(batch, c.value_heads, c.delta_dim, c.delta_dim, dtype=torch.float32)
        if state is not None and state.memory is not None:
            memory = state.memory
        rule = delta.step if length == 1 else delta.rule
        with torch.autocast("cpu", enabled=False):
            out, memory = rule(q, k, v, beta, g, memory)
        if state is not None:
            state.window, state.memory = extended[:, -3:], memory
        z = self.in_proj_z(x).unflatten(-1, (-1, c.delta_dim))
        return self.out_proj(self.norm(out, z))


class Attention(nn.Module):
    """Gated full attention mixer."""

    def __init__(self, c: NetworkConfig) -> None:
        super().__init__()
        self.c = c
        self.q_proj = linear(c.hidden, 2 * c.heads * c.head_dim)
        self.k_proj = linear(c.hidden, c.kv_heads * c.head_dim)
        self.v_proj = linear(c.hidden, c.kv_heads * c.head_dim)
        self.o_proj = linear(c.heads * c.head_dim, c.hidden)
        self.q_norm = Norm(c.head_dim, c.eps)
        self.k_norm = Norm(c.head_dim, c.eps)

    def forward(self, x: Tensor, state: LayerState | None, start: int, mask: Tensor | None) -> Tensor:
        c, length = self.c, x.shape[1]
        q, gate = self.q_proj(x).unflatten(-1, (c.heads, 2 * c.head_dim)).chunk(2, -1)
        k, v = (p(x).unflatten(-1, (c.kv_heads, c.head_dim)).transpose(1, 2) for p in (self.k_proj, self.v_proj))
        inverse = c.rope_theta ** (-torch.arange(0, c.rotary, 2, device=x.device).float() / c.rotary)
        angles = torch.arange(start, start + length, device=x.device).float()[:, None] * inverse
        cos, sin = angles.cos(), angles.sin()
        q = rotated(q.transpose(1, 2), self.q_norm.weight, cos, sin, c.eps)
        k = rotated(k, self.k_norm.weight, cos, sin, c.eps)
        if state is not None:
            if state.keys is not None and state.values is not None:
                k, v = torch.cat([state.keys, k], 2), torch.cat([state.values, v], 2)
            state.keys, state.values = k, v
        if c.heads != c.kv_heads:
            k, v = (t.repeat_interleave(c.heads // c.kv_heads, 1) for t in (k, v))
        allowed = None
        if state is not None:
            rows = torch.arange(start, start + length, device=x.device)
            allowed = (torch.arange(k.shape[2], device=x.device) <= rows[:, None])[None, None]
            if mask is not None:
                allowed = allowed & (mask[:, None, None] | (torch.arange(k.shape[2]) == rows[:, None])[None, None])
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=state is None)
        return self.o_proj((o.transpose(1, 2) * gate.sigmoid()).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = linear(hidden, width)
        self.up_proj = linear(hidden, width)
        self.down_proj = linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


class Experts(nn.Module):
    """The routed experts: SwiGLU each, gate and up in one tensor [E,2F,D], down [E,D,F]."""

    def __init__(self, c: NetworkConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(c.experts, 2 * c.expert_ffn, c.hidden))
        self.down_proj = nn.Parameter(torch.empty(c.experts, c.hidden, c.expert_ffn))

    def forward(self, rows: Tensor, counts: list[int]) -> Tensor:
        """Of rows [n,D], the first counts[0] go through expert 0, the next counts[1] through expert 1, and so on."""
        inner = torch.cat([F.linear(x, w) for x, w in zip(rows.split(counts), self.gate_up_proj, strict=True)])
        inner = swiglu(*inner.chunk(2, -1))
        return torch.cat([F.linear(x, w) for x, w in zip(inner.split(counts), self.down_proj, strict=True)])


class Mixture(nn.Module):
    """K of E experts per token, weighted by their share of the softmax, and a gated expert that all tokens share.

    `balance` is what the family's auxiliary loss is made of, for the rows of the last call: E * sum over experts of
    (how often it was chosen per row) * (its mean probability); K when all are used alike, more when not.
    """

    def __init__(self, c: NetworkConfig) -> None:
        super().__init__()
        self.c = c
        self.gate = linear(c.hidden, c.experts)
        self.experts = Experts(c)
        self.shared_expert = FeedForward(c.hidden, c.shared_ffn)
        self.shared_expert_gate = linear(c.hidden, 1)
        self.balance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        c, rows = self.c, x.flatten(0, 1)
        with torch.autocast("cpu", enabled=False):
            probabilities = F.linear(rows.float(), self.gate.weight).softmax(-1)
        weights, chosen = probabilities.topk(c.experts_used)
        counts = chosen.flatten().bincount(minlength=c.experts)
        self.balance = c.experts * (counts / len(rows) * probabilities.mean(0)).sum()
        order = chosen.flatten().argsort(stable=True)  # by expert; entry i is row i // K
        routed = self.experts(rows.index_select(0, order // c.experts_used), counts.tolist())
        routed = routed.index_select(0, order.argsort()).unflatten(0, (-1, c.experts_used))
        routed = (routed * (weights / weights.sum(-1, keepdim=True))[..., None]).sum(1)
        return (routed + self.shared_expert_gate(rows).float().sigmoid() * self.shared_expert(rows)).view_as(x)


class Layer(nn.Module):
    """One decoder layer: a mixer and a feed-forward, each behind a norm."""

    def __init__(self, c: NetworkConfig, full: bool) -> None:
        super().__init__()
        self.full = full
        self.input_layernorm = Norm(c.hidden, c.eps)
        self.post_attention_layernorm = Norm(c.hidden, c.eps)
        if full:
            self.self_attn = Attention(c)
        else:
            self.linear_attn = DeltaNet(c)
        self.mlp = Mixture(c) if c.experts else FeedForward(c.hidden, c.ffn)

    def forward(self, x: Tensor, state: LayerState | None, start: int, mask: Tensor | None) -> Tensor:
        y = self.input_layernorm(x)
        if self.full:
            x = x + self.self_attn(y, state, start, mask)
        else:
            if mask is not None:
                y = y * mask[:, -y.shape[1] :, None]
            x = x + self.linear_attn(y, state)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Embedding, layers and final norm."""

    def __init__(self, c: NetworkConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        self.layers = nn.ModuleList(Layer(c, (i + 1) % c.interval == 0) for i in range(c.layers))
        self.norm = Norm(c.hidden, c.eps)


class Draft(nn.Module):
    """The multi-token-prediction block: from (hidden of p, token p+1) to the logits of token p+2."""

    def __init__(self, c: NetworkConfig) -> None:
        super().__init__()
        self.pre_fc_norm_embedding = Norm(c.hidden, c.eps)
        self.pre_fc_norm_hidden = Norm(c.hidden, c.eps)
        self.fc = linear(2 * c.hidden, c.hidden)
        self.layers = nn.ModuleList([Layer(c, True)])
        self.norm = Norm(c.hidden, c.eps)

    def forward(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        x = self.fc(torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(hidden)], -1))
        return self.norm(self.layers[0](x, None, 0, None))


class Network(nn.Module):
    """Main model and, where the shape has one, draft block; embeddings tied to the head."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or DENSE
        self.model = Body(self.config)
        if self.config.draft_layers:
            self.mtp = Draft(self.config)
        self._initialise()

    def _initialise(self) -> None:
        for name, p in self.named_parameters():
            if name.endswith("A_log"):
                p.data.uniform_(0.5, 8.0).log_()
            elif name.endswith("dt_bias"):
                step = torch.exp(torch.rand_like(p) * 4.6 - 6.9)
                p.data.copy_(step + torch.log(-torch.expm1(-step)))
            elif name.endswith("conv1d.weight"):
                p.data.uniform_(-0.5, 0.5)
            elif p.ndim >= 2:
                p.data.normal_(std=0.02)

    def hidden(self, ids: Tensor, state: State | None = None) -> Tensor:
        """Post-final-norm hidden states [B,T,D] of ids [B,T]; advances `state` when given."""
        body = self.model
        x = body.embed_tokens(ids).float()
        start = 0
        if state is not None:
            start = state.length
            if not state.layers:
                state.layers = [LayerState() for _ in body.layers]
            state.length += ids.shape[1]
        for i, layer in enumerate(body.layers):
            x = layer(x, state.layers[i] if state else None, start, state.mask if state else None)
        return body.norm(x)

    def balance(self) -> Tensor:
        """The mean of `Mixture.balance` over the layers, for the last call."""
        return torch.stack([layer.mlp.balance for layer in self.model.layers]).mean()

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight)

    def draft_logits(self, hidden: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
        """Draft logits [N,V] at the `wanted` [B,T-2] rows: row p, from hidden row p and token p+1, predicts token p+2.

        Gradients reach the draft block alone: the shared embedding and head are taken as they are.
        """
        shared = self.model.embed_tokens.weight.detach()
        drafted = self.mtp(F.embedding(ids[:, 1:], shared).float(), hidden[:, :-1])
        return F.linear(drafted[:, :-1][wanted], shared)
