"""What a token costs: the bytes it streams from memory and the 8-bit operations it takes, from the packed weights."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qwen35_local import _core
from qwen35_local.models.kv import KvFormat
from qwen35_local.models.memory import KV_FORMATS

_VECTORS = ("norm.weight", "ssm_a", "ssm_dt.bias", "ssm_conv1d.weight")
_STATE_CHUNK = 4  # tokens between two writes of the recurrent state


@dataclass(frozen=True)
class Cost:
    """Bytes as the device holds them, padding included; weights that multiply counted once each.

    `dense_*` is read for every pass whatever its tokens, `expert_*` is one expert of every layer, `row_bytes` a row of
    the embedding. What drafts are made with is left out: the blocks that predict
    further tokens, and the rows of the head that are held for them once more."""

    dense_bytes: int
    dense_weights: int
    expert_bytes: int
    expert_weights: int
    head_bytes: int
    head_weights: int
    row_bytes: int
    experts: int
    top_k: int
    state_bytes: int  # one sequence's recurrent state, the tokens that wait for it, and convolution windows
    kv_token_bytes: Mapping[KvFormat, int]  # keys and values of one position
    page_tokens: int

    def decode_bytes(self, depth: float, sequences: int = 1, tokens: int = 1, kv: KvFormat = "f16") -> float:
        """One pass that reads `tokens` tokens of each of `sequences` sequences with `depth` positions before them, all
        with logits. Recurrent state is read, and written once per chunk; experts are those that so many tokens are
        expected to choose."""
        writes = min(1.0, tokens / _STATE_CHUNK)
        state = (1 + writes) * self.state_bytes + self.kv_bytes(depth + tokens, kv)
        rows = sequences * tokens
        weights = self.dense_bytes + self.head_bytes + self.distinct_experts(rows) * self.expert_bytes
        return weights + rows * self.row_bytes + sequences * state

    def kv_bytes(self, positions: float, kv: KvFormat) -> float:
        """Keys and values that the last of so many positions reads: in a narrow format the first page, its own and the
        one before it are f16."""
        packed = self.page_tokens * max(0, (int(positions) - 1) // self.page_tokens - 2) if kv != "f16" else 0
        return packed * self.kv_token_bytes[kv] + (positions - packed) * self.kv_token_bytes["f16"]

    def prefill_operations(self, tokens: int, logit_rows: int = 1) -> int:
        """Multiplications and additions with weights."""
        per_token = self.dense_weights + self.top_k * self.expert_weights
        return 2 * (tokens * per_token + logit_rows * self.head_weights)

    def distinct_experts(self, tokens: int) -> float:
        """How many of a layer's experts `tokens` tokens choose between them when every choice is as likely."""
        if not self.experts:
            return 0.0
        return float(self.experts * (1 - (1 - self.top_k / self.experts) ** tokens))


def cost(model: _core.Model) -> Cost:
    c = model.config
    predicting = tuple(f"blk.{n}." for n in range(c["layers"], c["layers"] + c["mtp_layers"]))
    read = [w for w in model.weights if not (predicting and w.name.startswith(predicting)) and "(" not in w.name]
    table = next(w for w in read if w.name == "token_embd.weight")
    head = next((w for w in read if w.name == "output.weight"), table)
    experts = [w for w in read if w.name.endswith("_exps.weight")]
    dense = [w for w in read if w not in (table, head) and w not in experts]
    footprint = _core.Footprint(c, [], device=model.device.partition("-")[0])  # "cpu-avx512" is "cpu"
    parts = {kv: footprint.parts(footprint.page_tokens, kv, rows=1) for kv in KV_FORMATS}
    return Cost(
        dense_bytes=sum(w.n_bytes for w in dense),
        dense_weights=_multiplied(w for w in dense if not w.name.endswith(_VECTORS)),
        expert_bytes=sum(w.n_bytes for w in experts) // max(c["experts"], 1),
        expert_weights=_multiplied(experts) // max(c["experts"], 1),
        head_bytes=head.n_bytes,
        head_weights=_multiplied([head]),
        row_bytes=table.n_bytes // table.rows,
        experts=c["experts"],
        top_k=c["experts_per_token"],
        state_bytes=parts["f16"]["state"],
        kv_token_bytes={kv: part["kv_token"] for kv, part in parts.items()},
        page_tokens=footprint.page_tokens,
    )


def _multiplied(weights: "Iterable[_core.WeightInfo]") -> int:
    return sum(w.rows * w.cols for w in weights)
