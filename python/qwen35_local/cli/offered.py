"""What a download would bring, from the header of the very file: how much, from where, and whether it fits."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local import json_file
from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.memory import Plan
from qwen35_local.plan import fit
from qwen35_local.plan.subject import Extras, Subject
from qwen35_local.quantize.recipe import DEFAULT_TYPE
from qwen35_local.units import file_size, size

if TYPE_CHECKING:
    from qwen35_local.hub.names import RepositoryName, SizeName
    from qwen35_local.hub.offer import Offer


@dataclass(frozen=True)
class Offered:
    """`type`: of the file, or what a checkpoint is to be converted to; `plan` None: nobody knows how much memory there
    is, which is then not spoken of."""

    name: str
    offer: "Offer"
    type: str
    subject: Subject
    plan: Plan | None

    @classmethod
    def of(cls, name: "SizeName | RepositoryName", offer: "Offer", type: str | None) -> "Offered":
        """Reads the header. Raises FormatError for a model that this program does not run."""
        from qwen35_local.engine import machine
        from qwen35_local.hub import remote

        wanted = offer.type or "GGUF" if not offer.is_checkpoint else (type or DEFAULT_TYPE).upper()
        subject = read_subject(remote.header(offer), offer, wanted)
        budget = machine.memory_budget()
        plan = None if budget is None else own_context_or_less(subject, budget[0])
        return cls(str(name).partition(":")[0], offer, wanted, subject, plan)

    @property
    def fits(self) -> bool:
        return self.plan is None or self.plan.fits

    @property
    def converted_bytes(self) -> int:
        """What a conversion of the checkpoint takes beside it; 0 for a file that is used as it is."""
        return self.subject.footprint.file_bytes if self.offer.is_checkpoint else 0

    def lines(self, have: int) -> list[str]:
        """As in "9b in Q4_K_M: 5.68 GB, fits with 262,144 tokens", and where it comes from. `have`: bytes of it that
        are here already."""
        count = len(self.offer.files)
        what = f"{count} files" if count > 1 else self.offer.files[0].path
        here = f"; {file_size(have)} of it are here already" if have else ""
        source = f"{self.offer.repository} at {self.offer.revision[:8]}, {what}{here}"
        if have >= self.offer.n_bytes:
            source = f"all of it is here already: {self.offer.repository} at {self.offer.revision[:8]}, {what}"
        return [f"{self.name} in {self.type}: {file_size(self.offer.n_bytes)}{self._conversion()}{self._fit()}", source]

    def _conversion(self) -> str:
        return f" of checkpoint, {file_size(self.converted_bytes)} when converted" if self.converted_bytes else ""

    def _fit(self) -> str:
        if self.plan is None:
            return ""
        tokens = f"{self.plan.context_tokens:,} tokens"
        if self.plan.fits:
            return f", fits with {tokens}" + (f" in {self.plan.kv}" if self.plan.kv != "f16" else "")
        needed, free = size(self.plan.memory.total), size(self.plan.budget)
        choices = fit.nearest(self.subject, fit.Question(self.plan.budget), Extras())
        nearest = "; ".join(f"{choice.subject.argument} in {choice.subject.type}" for choice in choices)
        return f", does not fit: {needed} with {tokens}, {free} are free" + (
            f"; what would: {nearest}" if nearest else ""
        )


def own_context_or_less(subject: Subject, budget: int) -> Plan:
    """As `chat` loads it: the model's own context, or as much of it as fits."""
    own = subject.footprint.config.context_tokens
    whole = fit.Question(budget, own).plan(subject)
    return whole if whole.fits else fit.Question(budget).plan(subject)


def read_subject(header: Path, offer: "Offer", type: str) -> Subject:
    """Raises FormatError, with what to do."""
    from qwen35_local import _core

    extras = Extras(threads=_core.usable_threads())
    try:
        if offer.is_checkpoint:
            config = ModelConfig.from_hf(json_file.read_object(header / "config.json"))
            return fit.of_config(offer.repository, offer.repository, config, type, extras)
        return fit.with_extras(header, _core.GgufFile(header, header=True), extras)
    except FormatError as error:
        said = str(error).removeprefix(f"{header}: ")
        raise FormatError(f"{offer.repository}, {offer.files[0].path}: not one that runs here: {said}") from None
