"""The forward pass of the family on a page of numpy: the oracle that every kernel and the C++ core answer to.

Weights come under their GGUF names and in GGUF form: matrices [out, in] as numpy reads them, norms with their +1
inside, `ssm_a` holding -exp(A_log), value heads tiled (value head j reads key head j % Hk). Everything is computed in
one dtype, float64 unless asked otherwise. Functions carry the names of the core's operations.

Letters: T new tokens, n cached tokens, D hidden, F feed-forward width, V vocabulary, H query heads, G KV heads,
A head width, Hk / Hv delta key / value heads, Dk / Dv their widths, C = 2 Hk Dk + Hv Dv, E experts, K per token.

Sources: Yang et al. 2024, "Gated Delta Networks" (the delta rule and its chunked form); Zhang & Sennrich 2019
(RMSNorm); Shazeer 2020 (SwiGLU); Su et al. 2021 (RoPE); Peng et al. 2023 (YaRN). tests/models compares with
transformers 5.23.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qwen35_local.errors import FormatError, InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.positions import InputRows, Positions, call_positions, next_position, text_positions
from qwen35_local.models.rope import inverse_frequencies, rope_axes
from qwen35_local.models.tensors import tensor_table

Array: TypeAlias = NDArray[np.float64]  # or the dtype that `Reference` was given

UNIT_EPS = 1e-6  # added to the sum of squares when q and k are scaled to unit length
CHUNK = 64  # tokens per chunk of the delta rule


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def softplus(x: Array) -> Array:
    """log(1 + e^x), without overflow."""
    return np.logaddexp(0.0, x)


def softmax(x: Array) -> Array:
    """e^x / sum(e^x) over the last axis; -inf gives 0."""
    e: Array = np.exp(x - x.max(-1, keepdims=True))
    total: Array = e.sum(-1, keepdims=True)
    return e / total


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis. `weight` is the GGUF's, its +1 included."""
    mean: Array = (x * x).mean(-1, keepdims=True)
    return x / np.sqrt(mean + eps) * weight


def unit(x: Array) -> Array:
    """x / sqrt(sum(x^2) + 1e-6) over the last axis: the sum, not the mean."""
    total: Array = (x * x).sum(-1, keepdims=True)
    return x / np.sqrt(total + UNIT_EPS)


def gated_rms_norm(x: Array, z: Array, weight: Array, eps: float) -> Array:
    """rms_norm(x, weight) * silu(z): norm first, gate second. x, z [..., Dv], weight [Dv] without any +1."""
    return rms_norm(x, weight, eps) * silu(z)


def swiglu(h: Array, gate: Array, up: Array) -> Array:
    """silu(h gate^T) * (h up^T). h [T, D]; gate, up [F, D]; result [T, F]."""
    return silu(h @ gate.T) * (h @ up.T)


def rope(
    x: Array, positions: Positions, axes: NDArray[np.int64], inv_freq: NDArray[np.float64], magnitude: float
) -> Array:
    """Rotates dimension pairs (i, i + pairs) by positions[axes[i]] * inv_freq[i]; dimensions from 2 pairs on pass
    through.

    x [T, heads, A], positions [T, 3], axes and inv_freq [pairs]; `magnitude` multiplies cos and sin.
    """
    pairs = inv_freq.shape[0]
    angle = positions[:, None, axes].astype(np.float64) * inv_freq
    cos = (np.cos(angle) * magnitude).astype(x.dtype)
    sin = (np.sin(angle) * magnitude).astype(x.dtype)
    a, b = x[..., :pairs], x[..., pairs : 2 * pairs]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., 2 * pairs :]], axis=-1)


def attend(q: Array, gate: Array, keys: Array, values: Array) -> Array:
    """softmax(q k^T / sqrt(A)) v * sigmoid(gate), causal; query head j reads KV head j // (H / G).

    q, gate [T, H, A]; keys, values [n, G, A] whose last T rows belong to the new tokens; result [T, H A].
    """
    tokens, heads, width = q.shape
    cached, kv_heads, _ = keys.shape
    group = heads // kv_heads
    grouped = q.reshape(tokens, kv_heads, group, width).transpose(1, 2, 0, 3)  # [G, H/G, T, A]
    scores = grouped @ keys.transpose(1, 2, 0)[:, None] * width**-0.5  # [G, H/G, T, n]
    hidden_from = np.arange(cached)[None, :] > np.arange(cached - tokens, cached)[:, None]
    mixed = softmax(np.where(hidden_from, -np.inf, scores)) @ values.transpose(1, 0, 2)[:, None]
    return (mixed.transpose(2, 0, 1, 3).reshape(q.shape) * sigmoid(gate)).reshape(tokens, heads * width)


def conv_silu(qkv: Array, kernel: Array, window: Array) -> tuple[Array, Array]:
    """silu of the causal depthwise convolution over [window; qkv], and the next window.

    qkv [T, C]; kernel [C, taps], its last tap on the current token; window [taps - 1, C], the rows before activation.
    """
    tokens, taps = qkv.shape[0], kernel.shape[1]
    extended = np.concatenate([window, qkv])
    mixed = sum(extended[j : j + tokens] * kernel[:, j] for j in range(taps))
    return silu(np.asarray(mixed)), extended[tokens:].copy()


def delta_step(q: Array, k: Array, v: Array, g: Array, beta: Array, memory: Array) -> tuple[Array, Array]:
    """The delta rule as defined, token by token: decay, read with the key, correct, write, read with the query.

        S <- e^g S;   d = beta (v - S^T k);   S <- S + k d^T;   o = S^T q

    q, k [T, Hv, Dk]; v [T, Hv, Dv]; g, beta [T, Hv]; memory S [Hv, Dk, Dv]. Result o [T, Hv, Dv] and the new memory.
    """
    out = np.empty_like(v)
    for t in range(v.shape[0]):
        memory = memory * np.exp(g[t])[:, None, None]
        d = beta[t][:, None] * (v[t] - (k[t][:, None, :] @ memory)[:, 0])
        memory = memory + k[t][:, :, None] * d[:, None, :]
        out[t] = (q[t][:, None, :] @ memory)[:, 0]
    return out, memory


def delta_chunk(q: Array, k: Array, v: Array, g: Array, beta: Array, memory: Array) -> tuple[Array, Array]:
    """What `delta_step` computes, for all tokens at once. G is the running sum of g, M_ij = e^(G_i - G_j) for j <= i.

    (I + strict_lower(beta K K^T . M)) [U | W] = [beta V | beta e^G K];   d = U - W S
    o = e^G Q S + (Q K^T . M) d;   S <- e^(G_n) S + (e^(G_n - G) K)^T d
    """
    q, k, v = (x.transpose(1, 0, 2) for x in (q, k, v))  # [Hv, n, width]
    beta, total = beta.T[:, :, None], np.cumsum(g.T, axis=1)[:, :, None]  # [Hv, n, 1]
    n = q.shape[1]
    lower = np.tril(np.ones((n, n), bool))
    decay = np.exp(np.where(lower, total - total.transpose(0, 2, 1), -np.inf))
    system = np.eye(n, dtype=v.dtype) + np.tril(beta * (k @ k.transpose(0, 2, 1)) * decay, -1)
    solved = np.linalg.solve(system, np.concatenate([beta * v, beta * np.exp(total) * k], axis=-1))
    d = solved[..., : v.shape[2]] - solved[..., v.shape[2] :] @ memory
    out = np.exp(total) * q @ memory + (q @ k.transpose(0, 2, 1) * decay) @ d
    last = total[:, -1:]
    memory = np.exp(last) * memory + (np.exp(last - total) * k).transpose(0, 2, 1) @ d
    return out.transpose(1, 0, 2), memory


def gated_delta_rule(
    qkv: Array, a: Array, b: Array, a_neg: Array, dt_bias: Array, config: ModelConfig, memory: Array
) -> tuple[Array, Array]:
    """Splits and scales q, k, v, forms the gates, and runs the delta rule.

        q <- unit(q) / sqrt(Dk);   k <- unit(k);   g = a_neg softplus(a + dt_bias);   beta = sigmoid(b)

    qkv [T, C] after the convolution; a, b [T, Hv]; a_neg, dt_bias [Hv]; memory [Hv, Dk, Dv]. Result [T, Hv, Dv].
    """
    tokens, c = qkv.shape[0], config
    keys = c.delta_key_heads * c.delta_key_width
    q, k = (unit(x.reshape(tokens, -1, c.delta_key_width)) for x in (qkv[:, :keys], qkv[:, keys : 2 * keys]))
    v = qkv[:, 2 * keys :].reshape(tokens, c.delta_value_heads, c.delta_value_width)
    key_head = np.arange(c.delta_value_heads) % c.delta_key_heads
    q, k = q[:, key_head] * c.delta_key_width**-0.5, k[:, key_head]
    g, beta = a_neg * softplus(a + dt_bias), sigmoid(b)
    out = np.empty_like(v)
    for first in range(0, tokens, CHUNK):
        rows = slice(first, first + CHUNK)
        rule = delta_step if tokens == 1 else delta_chunk
        out[rows], memory = rule(q[rows], k[rows], v[rows], g[rows], beta[rows], memory)
    return out, memory


def route(logits: Array, top_k: int) -> tuple[NDArray[np.int64], Array]:
    """The `top_k` largest of softmax(logits) per row, ties to the lower index, renormalised to sum 1.

    logits [T, E]; result experts and weights, both [T, K], largest first.
    """
    probabilities = softmax(logits)
    experts = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(probabilities, experts, axis=-1)
    return experts, weights / weights.sum(-1, keepdims=True)


@dataclass
class State:
    """What one sequence carries between calls, by block: keys, values [n, G, A]; window [taps - 1, C]; memory S."""

    start: int  # RoPE position of the first token
    positions: Positions = field(default_factory=lambda: text_positions(0, 0))  # of the rows the main layers have seen
    keys: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)
    windows: dict[int, Array] = field(default_factory=dict)
    memories: dict[int, Array] = field(default_factory=dict)  # [Hv, Dk, Dv]

    @property
    def tokens(self) -> int:
        """Rows that the main layers have seen."""
        return len(self.positions)

    def copy(self) -> State:
        """An independent state at the same point: arrays are replaced, never written in place."""
        duplicate = copy.copy(self)
        for name in ("keys", "values", "windows", "memories"):
            setattr(duplicate, name, dict(getattr(self, name)))
        return duplicate


class Reference:
    """A model of the family: `forward` for logits, `hidden` and `draft` for its multi-token-prediction block."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], config: ModelConfig, dtype: DTypeLike = np.float64) -> None:
        """Takes the tensors of `tensor_table(config)`. Raises `FormatError` for one missing or of another shape."""
        self.config = config
        self.dtype = np.dtype(dtype)
        self.weights: dict[str, Array] = {}
        self.blocks: list[dict[str, Array]] = [{} for _ in range(config.block_count)]
        for spec in tensor_table(config):
            if spec.name not in weights:
                raise FormatError(f"tensor {spec.name} is missing; expected shape {list(spec.shape)}")
            weight = np.asarray(weights[spec.name])
            if weight.shape != spec.shape:
                found, expected = list(weight.shape), list(spec.shape)
                raise FormatError(f"tensor {spec.name} has shape {found}; expected {expected}")
            self.weights[spec.name] = weight.astype(self.dtype, copy=False)
            if spec.name.startswith("blk."):
                _, block, part = spec.name.split(".", 2)
                self.blocks[int(block)][part] = self.weights[spec.name]
        self.inv_freq = inverse_frequencies(config.rope_width, config.rope_theta, config.yarn)
        self.magnitude = config.yarn.magnitude if config.yarn else 1.0
        self.axes = rope_axes(config.rope_sections, config.rope_width // 2)

    def new_state(self, start: int = 0) -> State:
        """An empty sequence whose first token stands at RoPE position `start`."""
        c, state = self.config, State(start)
        for block in range(c.block_count):
            if c.is_full_attention(block):
                state.keys[block] = state.values[block] = np.zeros((0, c.kv_heads, c.head_width), self.dtype)
            else:
                state.windows[block] = np.zeros((c.conv_taps - 1, c.conv_channels), self.dtype)
                shape = (c.delta_value_heads, c.delta_key_width, c.delta_value_width)
                state.memories[block] = np.zeros(shape, self.dtype)
        return state

    def forward(
        self,
        tokens: Sequence[int],
        state: State | None = None,
        start: int = 0,
        all_logits: bool = True,
        inputs: Sequence[InputRows] = (),
    ) -> Array:
        """Logits [T, V] of the tokens, or [1, V] of the last one; `state` is advanced in place.

        Without a state the tokens are a sequence of their own that begins at RoPE position `start`; with one they
        continue it and `start` is not looked at. `inputs` stand in for the embeddings of tokens. Results do not depend
        on how a sequence is cut into calls, beyond rounding. Raises `InputError` for no tokens or an id outside the
        vocabulary.
        """
        hidden = self.hidden(tokens, self.new_state(start) if state is None else state, inputs)
        return self.logits(hidden if all_logits else hidden[-1:])

    def hidden(self, tokens: Sequence[int], state: State, inputs: Sequence[InputRows] = ()) -> Array:
        """Post-norm hidden rows [T, D] of the main layers, which `logits` and `draft` take; advances `state`."""
        x = self.embed(tokens)
        for rows in inputs:
            x[rows.first : rows.first + len(rows)] = rows.embeddings
        positions = call_positions(next_position(state.positions, state.start), len(tokens), inputs)
        for block in range(self.config.layers):
            x = self._block(block, x, state, positions)
        state.positions = np.concatenate([state.positions, positions])
        return rms_norm(x, self.weights["output_norm.weight"], self.config.rms_eps)

    def logits(self, hidden: Array) -> Array:
        """hidden output^T, [.., V]; the embedding table stands in when the model is tied."""
        name = "token_embd.weight" if self.config.embeddings_are_tied else "output.weight"
        return hidden @ self.weights[name].T

    def draft(self, tokens: Sequence[int], hidden: Array, state: State) -> tuple[Array, Array]:
        """One step of the multi-token-prediction block: logits [T, V] and hidden rows [T, D] to chain drafts with.

            x = eh_proj [rms_norm(embed(t_{p+1})); rms_norm(hidden_p)];   u = rms_norm(block(x));   logits = output u

        Row i pairs `hidden` of position p, after the final norm, with the token at p + 1, and predicts the token at
        p + 2. The block has a KV cache of its own in `state`, at the position of `hidden`; chained drafts go on behind
        the main layers as text. Raises `InputError` when the model has no such block or the rows do not match.
        """
        c, block = self.config, self.config.layers
        if not c.mtp_layers:
            raise InputError("this model has no multi-token-prediction block; expected mtp_layers = 1")
        if hidden.shape != (len(tokens), c.hidden):
            raise InputError(f"hidden has shape {list(hidden.shape)}; expected {[len(tokens), c.hidden]}")
        w = self.blocks[block]
        e = rms_norm(self.embed(tokens), w["nextn.enorm.weight"], c.rms_eps)
        h = rms_norm(hidden, w["nextn.hnorm.weight"], c.rms_eps)
        x = np.concatenate([e, h], axis=-1) @ w["nextn.eh_proj.weight"].T
        first, last = len(state.keys[block]), len(state.keys[block]) + len(tokens)
        chained = text_positions(next_position(state.positions, state.start), max(last - state.tokens, 0))
        x = self._block(block, x, state, np.concatenate([state.positions, chained])[first:last])
        u = rms_norm(x, w["nextn.shared_head_norm.weight"], c.rms_eps)
        return self.logits(u), u

    def embed(self, tokens: Sequence[int]) -> Array:
        """Rows [T, D] of the embedding table. Raises `InputError` for no tokens or an id outside the vocabulary."""
        if len(tokens) == 0:
            raise InputError("no tokens given; expected at least one")
        highest = self.config.vocabulary - 1
        for token in tokens:
            if not 0 <= token <= highest:
                raise InputError(f"token id {token} is not in the vocabulary; expected 0 to {highest}")
        table = self.weights["token_embd.weight"]
        return table.take(np.asarray(tokens), axis=0)

    def _block(self, block: int, x: Array, state: State, positions: Positions) -> Array:
        """x + mixer(norm(x)), then x + feed_forward(norm(x))."""
        w = self.blocks[block]
        h = rms_norm(x, w["attn_norm.weight"], self.config.rms_eps)
        if self.config.is_full_attention(block):
            x = x + self._attention(block, w, h, state, positions)
        else:
            x = x + self._delta_net(block, w, h, state)
        h = rms_norm(x, w["post_attention_norm.weight"], self.config.rms_eps)
        if self.config.is_moe:
            return x + self._experts(w, h)
        return x + swiglu(h, w["ffn_gate.weight"], w["ffn_up.weight"]) @ w["ffn_down.weight"].T

    def _attention(self, block: int, w: Mapping[str, Array], h: Array, state: State, positions: Positions) -> Array:
        """Gated attention: attn_q yields [query | gate] per head; q and k are normed, then rotated."""
        c, tokens = self.config, h.shape[0]
        q_gate = (h @ w["attn_q.weight"].T).reshape(tokens, c.heads, 2 * c.head_width)
        q, gate = q_gate[..., : c.head_width], q_gate[..., c.head_width :]
        k = (h @ w["attn_k.weight"].T).reshape(tokens, c.kv_heads, c.head_width)
        v = (h @ w["attn_v.weight"].T).reshape(tokens, c.kv_heads, c.head_width)
        q, k = (
            rope(rms_norm(y, w[name], c.rms_eps), positions, self.axes, self.inv_freq, self.magnitude)
            for y, name in ((q, "attn_q_norm.weight"), (k, "attn_k_norm.weight"))
        )
        state.keys[block] = np.concatenate([state.keys[block], k])
        state.values[block] = np.concatenate([state.values[block], v])
        return attend(q, gate, state.keys[block], state.values[block]) @ w["attn_output.weight"].T

    def _delta_net(self, block: int, w: Mapping[str, Array], h: Array, state: State) -> Array:
        """out(norm(delta_rule(conv(qkv(h)))) * silu(z(h)))."""
        c, tokens = self.config, h.shape[0]
        qkv, z = h @ w["attn_qkv.weight"].T, h @ w["attn_gate.weight"].T
        a, b = h @ w["ssm_alpha.weight"].T, h @ w["ssm_beta.weight"].T
        qkv, state.windows[block] = conv_silu(qkv, w["ssm_conv1d.weight"], state.windows[block])
        mixed, state.memories[block] = gated_delta_rule(
            qkv, a, b, w["ssm_a"], w["ssm_dt.bias"], c, state.memories[block]
        )
        mixed = gated_rms_norm(mixed, z.reshape(mixed.shape), w["ssm_norm.weight"], c.rms_eps)
        return mixed.reshape(tokens, -1) @ w["ssm_out.weight"].T

    def _experts(self, w: Mapping[str, Array], h: Array) -> Array:
        """sum_i weight_i expert_i(h) + sigmoid(gate_shared . h) shared(h)."""
        top_k, weights = route(h @ w["ffn_gate_inp.weight"].T, self.config.experts_per_token)
        shared = swiglu(h, w["ffn_gate_shexp.weight"], w["ffn_up_shexp.weight"]) @ w["ffn_down_shexp.weight"].T
        out = shared * sigmoid(h @ w["ffn_gate_inp_shexp.weight"])[:, None]
        for expert in np.unique(top_k):
            rows, slots = np.nonzero(top_k == expert)
            inner = swiglu(h[rows], w["ffn_gate_exps.weight"][expert], w["ffn_up_exps.weight"][expert])
            out[rows] += weights[rows, slots][:, None] * (inner @ w["ffn_down_exps.weight"][expert].T)
        return out
