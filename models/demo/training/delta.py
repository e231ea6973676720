"""The gated delta rule of the demo network, a chunk or a token at a time.

Shapes: B sequences, T tokens, Hk / Hv key / value heads, R = Hv/Hk, N chunks of C positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 32


def unit_lower_inverse(a: Tensor) -> Tensor:
    """(I + a)^-1 for strictly lower triangular a [..., n, n], n a power of two, by doubling: a^n = 0."""
    n = a.shape[-1]
    eye = torch.eye(n, dtype=a.dtype, device=a.device)
    power = -a
    inverse = eye + power
    reach = 2
    while reach < n:
        power = power @ power
        inverse = inverse + power @ inverse
        reach *= 2
    return inverse


def rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Chunked gated delta rule, all fp32: q, k [B,Hk,T,128]; v [B,Hv,T,128]; beta, g [B,Hv,T]; memory [B,Hv,128,128].

    Value heads of one key head lie side by side (R of them), so that one product with k or q serves them all.
    """
    _, key_heads, length, width = q.shape
    share = v.shape[1] // key_heads
    pad = -length % CHUNK
    if pad:
        q, k, v = (F.pad(x, (0, 0, 0, pad)) for x in (q, k, v))
        beta, g = F.pad(beta, (0, pad)), F.pad(g, (0, pad))
    q, k = (x.unflatten(2, (-1, CHUNK)) for x in (q, k))
    v = v.unflatten(2, (-1, CHUNK)).unflatten(1, (key_heads, share))
    beta, g = (x.unflatten(2, (-1, CHUNK)).unflatten(1, (key_heads, share)) for x in (beta, g))
    kt = k.transpose(-1, -2)
    inverse, inner, grown, tail, last = within_chunks((k @ kt)[:, :, None], (q @ kt)[:, :, None], beta, g)
    memory = memory.unflatten(1, (key_heads, share)).transpose(2, 3).flatten(3)
    chunks = zip(
        *(x.unbind(2) for x in (q, k)), *(x.unbind(3) for x in (v, inverse, inner, grown, tail, last)), strict=True
    )
    outputs = []
    for q_i, k_i, v_i, inverse_i, inner_i, grown_i, tail_i, last_i in chunks:
        known, asked = ((x @ memory).unflatten(-1, (share, width)).transpose(2, 3) for x in (k_i, q_i))
        d = inverse_i @ (v_i - known * grown_i)
        outputs.append(torch.addcmul(inner_i @ d, asked, grown_i))
        gain = k_i.transpose(-1, -2) @ (d * tail_i).transpose(2, 3).flatten(3)
        memory = (memory.unflatten(-1, (share, width)) * last_i[:, :, None]).flatten(3) + gain
    out = torch.stack(outputs, 3).flatten(1, 2).flatten(2, 3)
    return out[:, :, :length], memory.unflatten(-1, (share, width)).transpose(2, 3).flatten(1, 2)


def within_chunks(kk: Tensor, qk: Tensor, beta: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """What a chunk needs of itself, from kk, qk [B,Hk,1,N,C,C] and beta, g [B,Hk,R,N,C].

    Returns (I+A)^-1 diag(beta) and the masked scores [..,C,C]; e^G and e^(last-G) [..,C,1]; e^last [B,Hk,R,N,1].
    """
    total = g.cumsum(-1)
    upper = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=g.device).triu(1)
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(upper, float("-inf")).exp()
    inverse = unit_lower_inverse((kk * decay * beta[..., None]).tril(-1)) * beta[..., None, :]
    end = total[..., -1:]
    return inverse, qk * decay, total.exp()[..., None], (end - total).exp()[..., None], end.exp()


def step(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One token of the gated delta rule; shapes as in `rule` with T = 1."""
    q, k = (x.repeat_interleave(v.shape[1] // x.shape[1], 1) for x in (q, k))
    memory = memory * g.exp()[..., None]
    d = beta[..., None] * (v - k @ memory)
    memory = memory + k.transpose(-1, -2) @ d
    return q @ memory, memory
