"""The torch network against transformers, against itself with a cache and left padding, and its training parts."""

# ruff: noqa: E402

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the demo network needs the [train] extra")
pytest.importorskip("safetensors", reason="the demo network needs the [train] extra")

from models.demo.training import delta
from models.demo.training.network import MIXTURE, Mixture, Network, NetworkConfig, State
from models.demo.training.optimise import Optimiser, Rounding, orthogonal, rounded, schedule
from models.demo.training.train import losses
from models.demo.training.weights import model_config, tensors
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import canonical_name, tensor_table


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    made = Network()
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "norm" in name:
                p.add_(torch.randn_like(p) * 0.1)
            elif p.ndim == 2:
                p.normal_(std=0.06)
    return made.eval()


@pytest.fixture(scope="module")
def ids() -> Any:
    return torch.randint(0, 4000, (2, 2 * delta.CHUNK + 13), generator=torch.Generator().manual_seed(1))


def relative(a: Any, b: Any) -> float:
    return float((a - b).abs().max() / a.abs().max())


def test_logits_equal_those_of_transformers(network: Any, ids: Any) -> None:
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    config = transformers.Qwen3_5TextConfig(**model_config(NetworkConfig(), 0, 0))
    with torch.no_grad():
        reference = transformers.Qwen3_5ForCausalLM._from_config(config, dtype=torch.float32).eval()
        state = {name: value for name, value in network.state_dict().items() if not name.startswith("mtp.")}
        missing, unexpected = reference.load_state_dict(state, strict=False)
        assert missing == ["lm_head.weight"]
        assert not unexpected
        reference.tie_weights()
        assert relative(reference(input_ids=ids).logits, network.logits(network.hidden(ids))) < 1e-4


def test_a_mixture_is_its_chosen_experts() -> None:
    torch.manual_seed(5)
    c = MIXTURE
    mixture, x = Mixture(c), torch.randn(2, 9, c.hidden)
    with torch.no_grad():
        for p in mixture.parameters():
            p.normal_(std=0.06)
        x[..., 0], mixture.gate.weight[3, 0] = 1.0, -100.0  # nobody's expert
        found = mixture(x)
        shared = mixture.shared_expert(x) * mixture.shared_expert_gate(x).sigmoid()
        for row, got in zip(x.flatten(0, 1), (found - shared).flatten(0, 1), strict=True):
            weights, chosen = (mixture.gate.weight @ row).topk(c.experts_used)  # softmax of the chosen: the same shares
            want = torch.zeros(c.hidden)
            for share, e in zip(weights.softmax(0), chosen, strict=True):
                gate, up = (mixture.experts.gate_up_proj[e] @ row).chunk(2)
                want += share * (mixture.experts.down_proj[e] @ (torch.nn.functional.silu(gate) * up))
            assert relative(want, got) < 1e-4


def test_balance_is_least_when_experts_are_used_alike() -> None:
    torch.manual_seed(6)
    mixture, x = Mixture(MIXTURE), torch.randn(1, 2000, MIXTURE.hidden)
    with torch.no_grad():
        for p in mixture.parameters():
            p.normal_(std=0.06)
        mixture(x)
        mixed = mixture.balance.item()
        mixture(x[:, :1].expand_as(x))  # all to the same four
        assert mixture.balance.item() > 1.5 * mixed
        mixture.gate.weight.zero_()
        mixture(x)
    assert mixture.balance.item() == pytest.approx(MIXTURE.experts_used)


def test_a_mixtures_checkpoint_is_the_familys() -> None:
    made = Network(MIXTURE)
    config = ModelConfig.from_hf(model_config(MIXTURE, 0, 0))
    found = {canonical_name(name): tuple(value.shape) for name, value in tensors(made).items()}
    assert config.experts == MIXTURE.experts
    assert found.keys() == {spec.source for spec in tensor_table(config)}
    assert all(found[spec.source] in spec.source_shapes for spec in tensor_table(config))


@pytest.mark.parametrize("padding", [0, 9])
def test_token_by_token_equals_all_at_once(network: Any, ids: Any, padding: int) -> None:
    prompt = delta.CHUNK + 5
    padded = torch.cat([torch.zeros(2, padding, dtype=torch.long), ids[:, :prompt]], 1)
    with torch.no_grad():
        whole = network.hidden(ids)
        state = State(mask=torch.arange(padding + prompt).expand(2, -1) >= padding)
        parts = [network.hidden(padded, state)[:, padding:]]
        for t in range(prompt, ids.shape[1]):
            state.mask = torch.cat([state.mask, torch.ones(2, 1, dtype=torch.bool)], 1)
            parts.append(network.hidden(ids[:, t : t + 1], state))
    assert relative(whole, torch.cat(parts, 1)) < 1e-4


@pytest.mark.parametrize("length", [1, delta.CHUNK - 1, delta.CHUNK, 2 * delta.CHUNK + 1])
def test_chunks_equal_the_recurrence(length: int) -> None:
    torch.manual_seed(2)
    q, k = (torch.nn.functional.normalize(torch.randn(2, 2, length, 128), dim=-1) for _ in range(2))
    v, beta, g = torch.randn(2, 4, length, 128), torch.rand(2, 4, length), -torch.rand(2, 4, length)
    memory = torch.randn(2, 4, 128, 128)
    out, after = delta.rule(q, k, v, beta, g, memory)
    steps = []
    for t in range(length):
        step, memory = delta.step(*(x[:, :, t : t + 1] for x in (q, k, v, beta, g)), memory)
        steps.append(step)
    assert relative(torch.cat(steps, 2), out) < 1e-4
    assert relative(memory, after) < 1e-4


def test_the_draft_loss_leaves_the_main_model_alone(network: Any, ids: Any) -> None:
    network.zero_grad(set_to_none=True)
    losses(network, ids, torch.ones_like(ids, dtype=torch.bool))[1].backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    network.zero_grad(set_to_none=True)
    assert "mtp.fc.weight" in touched
    assert all(name.startswith("mtp.") for name in touched)


@pytest.mark.parametrize("shape", [NetworkConfig(layers=4), MIXTURE], ids=["dense", "mixture"])
def test_a_step_lowers_the_loss(ids: Any, shape: NetworkConfig) -> None:
    torch.manual_seed(3)
    small = Network(shape)
    optimiser, targets = Optimiser(small), torch.ones_like(ids, dtype=torch.bool)
    seen = []
    for i in range(4):
        main, draft = losses(small, ids, targets, drafting=shape.draft_layers > 0 and i % 2 == 0)
        (main + draft).backward()
        optimiser.step(1.0)
        small.zero_grad(set_to_none=True)
        seen.append(main.item())
    assert seen[-1] < seen[0]


def test_checkpoint_names_are_the_familys(network: Any) -> None:
    names = set(tensors(network))
    assert "model.language_model.layers.0.linear_attn.in_proj_qkv.weight" in names
    assert "model.language_model.layers.3.self_attn.q_norm.weight" in names
    assert "mtp.layers.0.self_attn.o_proj.weight" in names
    assert "mtp.fc.weight" in names
    assert not any("lm_head" in name for name in names)
    total = sum(value.numel() * value.element_size() for value in tensors(network).values())
    assert total < 25_000_000


def test_orthogonal_updates_and_rounding() -> None:
    torch.manual_seed(4)
    singular = torch.linalg.svdvals(orthogonal(torch.randn(1, 96, 64))[0])
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    w = torch.randn(8, 64)
    assert (rounded(w, 4, 32) - w).abs().max() <= (w.amax() - w.amin()) / 30 + 1e-6
    assert rounded(w, 4, 32)[0, :32].unique().numel() <= 16


def test_masters_come_back_after_rounding(network: Any) -> None:
    weight = network.model.layers[0].mlp.up_proj.weight
    before = weight.data.clone()
    with Rounding(network, active=True):
        assert not torch.equal(weight.data, before)
    assert torch.equal(weight.data, before)


def test_the_schedule_warms_up_holds_and_decays() -> None:
    factors = [schedule(i / 100, 0.72) for i in range(101)]
    assert factors[0] < 0.1
    assert factors[40] == 1.0
    assert factors[100] == pytest.approx(0.01)
