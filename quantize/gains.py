"""How a checkpoint stores the gains of its norms: as w, where the norm multiplies by 1 + w, or as 1 + w.

transformers stores w. MLX adds 1 when it converts and saves the sum, and tools that turn its files back forget that, or
forget it for some tensors. A gain that is increased twice ruins the model without an error, so the values decide.

* Trained gains are positive, so w of -0.1 is likely and a gain of -0.1 is not. Norms in front of layers have w around
  0: -0.02 to 0.2 in the mean for Qwen3.5 and Qwen3.6 (ml-explore/mlx-lm#1623, youssofal/MTPLX#511), -0.03 to -0.65 for
  the families of the demo model, with a fifth and more of the values negative.
* Norms of queries and keys have w of 0.74 to 0.83 in the mean in the published sizes (youssofal/MTPLX#306), 0.07 in the
  demo model. Their limit is 0.95.
* The last bits say more: 1 + w, added in a type of n significant bits, is a multiple of 2^-n for every w above -1
  (1/256 in BF16). Values of w that are below 1/2, as some are in any layer, are mostly not.
* A tensor that needs more bits than all the others has been computed with; one that lies 1/2 above those like it, with
  no value that only w can have, has been increased.
* The last norm has w of 0.4 to 2.6, which overlaps with 1 + w: it follows the others, and where nothing shows that it
  is w, that is said; where other tensors are laid out as MLX does, it is refused.

Parts come from different tools (jundot/omlx#1507: the MTP block stored in one way, the rest in the other), so norms are
judged by family and then have to agree.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from qwen35_local.errors import FormatError
from qwen35_local.quantize.rows import Entry, RowReader

_SHARE = 0.01  # of the values of a tensor: fewer are strays
_MIXED_SHARE = 0.25  # of the norms of queries and keys, of which single ones cannot be told
_OUTLIER = 0.5  # half of what an increase adds; families spread less
_LAYER_LIMIT, _QUERY_KEY_LIMIT = 0.5, 0.95  # between the means of w and of 1 + w
_ADDED_TWICE = 1.6  # 1 + w is 1.2 at most in front of layers, in the mean


class Stored(Enum):
    """What a tensor of gains holds."""

    OFFSET = "w"
    GAIN = "1 + w"


@dataclass(frozen=True, slots=True)
class Gains:
    """What a norm tensor shows. `bits`: significant ones, as BF16, F16 or F32 have. `negative`, `fine`: shares of the
    values below 0, and that are not multiples of 2^-bits."""

    entry: Entry
    mean: float
    bits: int
    negative: float
    fine: float

    @classmethod
    def of(cls, entry: Entry, values: NDArray[np.float32]) -> "Gains":
        pattern, wide = values.view(np.uint32), values.astype(np.float64)
        bits = next((n for n in (8, 11) if not (pattern & (1 << 24 - n) - 1).any()), 24)
        fine = float((wide * 2**bits % 1 != 0).mean())
        return cls(entry, float(wide.mean()), bits, float((values < 0).mean()), fine)

    def stored(self, limit: float) -> Stored | None:
        """What is certain by this tensor alone."""
        if self.fine >= _SHARE or (self.negative >= _SHARE and self.mean < limit):
            return Stored.OFFSET
        if self.mean == self.negative == 0.0:
            return Stored.OFFSET  # as initialised
        # Queries and keys have few channels: w of 1/2 and more in all of them is not impossible.
        is_layer = limit == _LAYER_LIMIT
        return Stored.GAIN if is_layer and self.bits == 8 and self.negative < _SHARE else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a checkpoint stores its gains, and whether storing 1 + w rounded it. `doubtful`: names of norms taken as w
    because the others are, and for no reason of their own."""

    stored: Stored
    is_rounded: bool = False
    doubtful: tuple[str, ...] = ()


def judge(norms: Mapping[str, Entry]) -> Verdict:
    """`norms`: by canonical name. Raises FormatError when a checkpoint stores some in one way and some in the
    other, or in neither."""
    families: dict[tuple[str, float], list[Gains]] = {}
    for source, gains in _read(norms):
        part = source.removesuffix(".weight").rpartition(".")[2]
        is_mtp = source.startswith("mtp.")
        if part in ("q_norm", "k_norm"):
            family = ("mtp" if is_mtp else "layers", _QUERY_KEY_LIMIT)
        else:
            family = ("last" if part == "norm" else "mtp" if is_mtp else part, _LAYER_LIMIT)
        families.setdefault(family, []).append(gains)
    last = families.pop(("last", _LAYER_LIMIT), [])
    verdicts = [(_family(limit, gains), gains[0]) for (_, limit), gains in families.items()]
    verdict, first = verdicts[0]
    for other, gains in verdicts[1:]:
        if other is not verdict:
            raise _mixed(first, verdict, gains)
    if verdict is Stored.OFFSET:
        return Verdict(verdict, doubtful=_doubtful(first, last, families))
    for gains in last:
        if gains.mean < _LAYER_LIMIT or gains.stored(_QUERY_KEY_LIMIT) is Stored.OFFSET:
            raise _mixed(first, verdict, gains)
    every = [gains for family in (last, *families.values()) for gains in family]
    return Verdict(verdict, any(g.entry.dtype != "F32" for g in every) or all(g.bits < 24 for g in every))


def _doubtful(first: Gains, last: list[Gains], families: Mapping[tuple[str, float], list[Gains]]) -> tuple[str, ...]:
    """Names of norms that may hold 1 + w though the others hold w. Raises FormatError for those that do."""
    unclear = [gains for gains in last if gains.mean and not (gains.fine or gains.negative)]
    certain = [gains for gains in last if gains not in unclear]
    for (_, limit), family in families.items():
        for gains in family:
            (unclear if gains.stored(limit) is None and gains.negative < _SHARE else certain).append(gains)
    computed = next((gains for gains in unclear if gains.bits > max(other.bits for other in certain)), None)
    if computed is not None:
        raise _mixed(first, Stored.OFFSET, computed)
    return tuple(gains.entry.name for gains in unclear if gains in last or gains.mean >= _QUERY_KEY_LIMIT)


def _read(norms: Mapping[str, Entry]) -> Iterator[tuple[str, Gains]]:
    reader = RowReader()
    try:
        for source, entry in norms.items():
            values = np.empty((1, entry.n_values), np.float32)
            reader.read_values(entry, 0, values)
            if not np.isfinite(values).all():
                raise FormatError(f"{entry.path}: tensor {entry.name} holds values that are not finite.")
            yield source, Gains.of(entry, values)
    finally:
        reader.close()


def _family(limit: float, family: list[Gains]) -> Stored:
    """Of tensors that are alike."""
    certain = {verdict: gains for gains in family if (verdict := gains.stored(limit)) is not None}
    if len(certain) == 2:
        raise _mixed(certain[Stored.OFFSET], Stored.OFFSET, certain[Stored.GAIN])
    mean = sum(gains.mean for gains in family) / len(family)
    negative = sum(gains.negative for gains in family) / len(family)
    if Stored.OFFSET in certain:
        unclear = [gains for gains in family if gains.stored(limit) is None]
        level = sum(gains.mean for gains in family if gains not in unclear) / (len(family) - len(unclear))
        odd = [gains for gains in unclear if gains.mean >= (level + _OUTLIER if limit == _LAYER_LIMIT else limit)]
        if odd and (limit == _LAYER_LIMIT or len(odd) >= _MIXED_SHARE * len(family)):
            raise _mixed(certain[Stored.OFFSET], Stored.OFFSET, odd[0])
        return Stored.OFFSET
    where = f"{family[0].entry.path}: the values of {family[0].entry.name} and the {len(family) - 1} norms like it"
    if negative >= _SHARE:
        raise FormatError(
            f"{where} are {mean:.2f} in the mean and {negative:.0%} of them negative: neither w, around 0, nor 1 + w, "
            "around 1. Start from the original checkpoint."
        )
    if limit == _LAYER_LIMIT and mean > _ADDED_TWICE:
        raise FormatError(
            f"{where} are {mean:.2f} in the mean: 1 was added to them twice. Start from the original checkpoint."
        )
    return Stored.GAIN if limit == _LAYER_LIMIT or mean >= limit else Stored.OFFSET


def _mixed(one: Gains, stored: Stored, other: Gains) -> FormatError:
    opposite = Stored.GAIN if stored is Stored.OFFSET else Stored.OFFSET
    return FormatError(
        f"{other.entry.path}: tensor {other.entry.name} ({other.mean:.2f} in the mean) stores its gains as "
        f"{opposite.value}, {one.entry.name} ({one.mean:.2f}) as {stored.value}: another tool, as MLX, changed a part "
        "of this checkpoint. Start from the original one."
    )
