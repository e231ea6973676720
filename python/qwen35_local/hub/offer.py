"""What of a repository would be downloaded: one model in one type, in all its parts, or a checkpoint."""

from collections import defaultdict
from dataclasses import dataclass

from qwen35_local.errors import InputError
from qwen35_local.hub.filename import is_model, part, type_in
from qwen35_local.hub.listing import Listing, RemoteFile

# What is taken where nobody says a type: 4 bits by preference, then more precise ones, then 3 bits, whole and 2 bits.
_PREFERRED = (
    *("Q4_K_M", "UD-Q4_K_XL", "Q4_K_L", "Q4_K_S", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1"),
    *("Q5_K_M", "UD-Q5_K_XL", "Q5_K_L", "Q5_K_S", "Q5_0", "Q5_1"),
    *("Q6_K", "UD-Q6_K_XL", "Q6_K_L", "Q8_0", "UD-Q8_K_XL"),
    *("Q3_K_M", "UD-Q3_K_XL", "Q3_K_L", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "UD-IQ3_XXS", "IQ3_XXS"),
    *("BF16", "F16", "F32", "UD-Q2_K_XL", "Q2_K_L", "Q2_K", "IQ2_M", "UD-IQ2_M", "IQ2_S", "IQ2_XS", "UD-IQ2_XXS"),
)
_CHECKPOINT_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True)
class Offer:
    """Files of one commit of a repository. `type`: of a GGUF, None where its name does not say; of a checkpoint, None.
    The first file is the one to open."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]
    type: str | None
    is_checkpoint: bool = False

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


def offers(listing: Listing) -> list[Offer]:
    """Every model that is there as GGUF and complete, by the path of its first file."""
    whole: list[list[RemoteFile]] = []
    split: dict[tuple[str, int], dict[int, RemoteFile]] = defaultdict(dict)
    for file in listing.files:
        folder, _, name = file.path.rpartition("/")
        found = part(name)
        if not is_model(name):
            continue
        if found is None:
            whole.append([file])
        else:
            split[f"{folder}/{found.stem}", found.count][found.number] = file
    whole += [[parts[n] for n in sorted(parts)] for (_, count), parts in split.items() if len(parts) == count]
    whole.sort(key=lambda files: files[0].path)
    return [Offer(listing.repository, listing.revision, tuple(files), _type(files[0].path)) for files in whole]


def checkpoint(listing: Listing) -> Offer | None:
    """The safetensors of the repository's first folder and what describes them; None when there are none."""
    files = tuple(file for file in listing.files if "/" not in file.path and file.path.endswith(_CHECKPOINT_SUFFIXES))
    if not any(file.path.endswith(".safetensors") for file in files):
        return None
    described = sorted(files, key=lambda file: file.path != "config.json")
    if described[0].path != "config.json":
        return None
    return Offer(listing.repository, listing.revision, tuple(described), None, is_checkpoint=True)


def choose(listing: Listing, type: str | None) -> Offer | None:
    """The offer of `type`, or of the preferred type; None when the repository has no such. Raises InputError when there
    are several."""
    found = offers(listing)
    if type is None:
        present = {offer.type for offer in found}
        type = next((wanted for wanted in _PREFERRED if wanted in present), None)
        if type is None and not (len(found) == 1 and found[0].type is None):
            return None
    matching = [offer for offer in found if offer.type == type]
    if len(matching) > 1:
        names = ", ".join(offer.files[0].path for offer in matching[:5])
        raise InputError(
            f"{listing.repository} has {len(matching)} models as {type or 'GGUF'} ({names}); download the one you mean "
            f"with `hf download {listing.repository} FILE` and give its path"
        )
    return matching[0] if matching else None


def types(listing: Listing) -> list[str]:
    """That the repository has, as their names sort."""
    return sorted({offer.type for offer in offers(listing) if offer.type is not None})


def _type(path: str) -> str | None:
    """Of the file's name, or else of its folder's."""
    folder, _, name = path.rpartition("/")
    return type_in(name) or type_in(folder.rpartition("/")[2])
