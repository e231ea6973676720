"""The optimiser (Muon for matrices, AdamW for the rest), its schedule, and 4-bit rounding of weights while training."""

# mypy: disable-error-code="misc,untyped-decorator"

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .network import Network

WARM_UP = 0.015


def schedule(progress: float, decay_from: float) -> float:
    """Learning-rate factor at a fraction 0..1 of the run: warm-up, flat, linear to nearly zero."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.02)
    if progress < decay_from:
        return 1.0
    return max((1.0 - progress) / (1.0 - decay_from), 0.01)


def orthogonal(g: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices to g [..., rows, columns], by a quintic Newton-Schulz iteration in bf16."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


def is_projection(p: Tensor) -> bool:
    """Whether a parameter is a matrix, or one per expert, of a width worth a matrix's treatment."""
    return p.ndim >= 2 and bool(min(p.shape[-2:]) >= 64)


class Optimiser:
    """Muon with momentum 0.95 on the projections, AdamW on embeddings, norms, gates and convolutions."""

    def __init__(self, network: Network, muon_rate: float = 0.02, adam_rate: float = 3e-3) -> None:
        self.matrices: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
        others = []
        for name, p in network.named_parameters():
            if is_projection(p) and "embed" not in name:
                self.matrices.setdefault(tuple(p.shape), []).append(p)
            else:
                others.append(p)
        self.momentum = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.matrices.items()}
        self.adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self.muon_rate, self.adam_rate = muon_rate, adam_rate

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update with the gradients in place, learning rates scaled by `factor`."""
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * factor
        self.adam.step()
        rate = self.muon_rate * factor
        for shape, parameters in self.matrices.items():
            present = [i for i, p in enumerate(parameters) if p.grad is not None]
            if not present:
                continue
            gradient = torch.stack([parameters[i].grad for i in present])
            moment = self.momentum[shape][present].lerp_(gradient, 0.05)
            self.momentum[shape][present] = moment
            update = orthogonal(gradient.lerp_(moment, 0.95))
            scale = rate * math.sqrt(max(1.0, shape[-2] / shape[-1]))
            for i, u in zip(present, update, strict=True):
                parameters[i].mul_(1 - rate * 0.05).sub_(u, alpha=scale)

    def state(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]


def rounded(w: Tensor, bits: int, group: int) -> Tensor:
    """w with each group of a row rounded to 2^bits levels between the group's minimum (at most 0) and maximum."""
    x = w.reshape(-1, group)
    low = x.amin(1, keepdim=True).clamp(max=0.0)
    scale = (x.amax(1, keepdim=True) - low).clamp(min=1e-8) / (2**bits - 1)
    return ((x - low) / scale).round_().mul_(scale).add_(low).reshape(w.shape)


class Rounding:
    """Straight-through training on quantised weights: rounded inside the `with`, the masters back after it."""

    def __init__(self, network: Network, active: bool) -> None:
        named = network.named_parameters() if active else ()
        self.parameters = [(name, p) for name, p in named if is_projection(p)]
        self.masters: list[Tensor] = []

    @torch.no_grad()
    def __enter__(self) -> None:
        self.masters = [p.data for _, p in self.parameters]
        for name, p in self.parameters:
            p.data = rounded(p.data, 6, 16) if "embed" in name else rounded(p.data, 4, 32)

    def __exit__(self, *_: object) -> None:
        for (_, p), master in zip(self.parameters, self.masters, strict=True):
            p.data = master
