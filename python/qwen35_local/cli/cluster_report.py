"""What `qwen35 plan` says of a model that one machine is too small for."""

from dataclasses import asdict
from typing import Any

from qwen35_local.models.memory import Plan
from qwen35_local.models.registry import Size
from qwen35_local.plan import cluster, fit
from qwen35_local.plan.subject import Subject
from qwen35_local.units import counted, file_size


class Cluster:
    """Of one question. `size`: the model; `context_tokens`: of a conversation that is to fit."""

    def __init__(self, size: Size, context_tokens: int, subject: Subject, plan: Plan) -> None:
        self.size = size
        self.context_tokens = context_tokens
        kv = subject.footprint.kv_token_bytes("f16")
        self.layouts = cluster.layouts(size, context_tokens, kv, plan.memory.state)

    @property
    def shown(self) -> list[cluster.Layout]:
        """Those whose commands are worth reading: the widest cards of one machine, and machines with Ray."""
        one = [each for each in self.layouts if each.pipeline_parallel == 1]
        several = [each for each in self.layouts if each.pipeline_parallel > 1]
        wanted = [next((each for each in one if each.format == "FP8"), None), next(iter(several), None)]
        return [each for each in wanted if each is not None]

    def facts(self) -> list[dict[str, Any]]:
        return [
            {**asdict(each), "commands": [line for _, line in self.commands(each)], "cards": each.n_cards}
            for each in self.layouts
        ]

    def commands(self, layout: cluster.Layout) -> list[tuple[str, str]]:
        return cluster.commands(self.size, layout, self.context_tokens)


def cluster_for(question: fit.Question, subject: Subject, plan: Plan) -> Cluster | None:
    """None where a card would do, and for a model of nobody's publishing. Contexts are those without YaRN."""
    size = fit.size_of(subject.footprint.config)
    if size is None or subject.is_file or cluster.weight_bytes(size, "BF16") < max(cluster.CARDS.values()):
        return None
    trained = size.config.context_tokens
    return Cluster(size, min(question.context_tokens or trained, trained), subject, plan)


def show_cluster(console: Any, found: Cluster) -> None:
    from rich import box
    from rich.table import Table

    title = f"On other machines, with vLLM, {found.context_tokens:,} tokens and more:"
    console.print(f"\n{title}", markup=False, style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("format", "weights", "cards", "machines", "room for"):
        table.add_column(label, justify="left" if label in ("format", "cards") else "right")
    for each in found.layouts:
        cards = f"{each.n_cards} of {each.card}"
        room = f"{each.context_tokens:,} tokens"
        table.add_row(each.format, file_size(each.weight_bytes), cards, str(each.pipeline_parallel), room)
    console.print(table)
    for layout in found.shown:
        where = counted(layout.pipeline_parallel, "machine")
        console.print(f"{layout.format} on {where}, {layout.n_cards} cards of {layout.card}:", markup=False)
        for place, line in found.commands(layout):
            console.print(f"  {place + ':':<14} {line}", markup=False, highlight=False, soft_wrap=True, style="dim")
    console.print("Ray and vLLM let in whoever reaches them: give them a network of their own.")
