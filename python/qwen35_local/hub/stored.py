"""A model that is on this disk, whoever put it there."""

from dataclasses import dataclass
from pathlib import Path

from qwen35_local.hub.contents import total_bytes
from qwen35_local.hub.names import Name, RepositoryName, SizeName


@dataclass(frozen=True)
class Stored:
    """One model in one type. `name` is how to say it on the command line, `also` what else its store calls it; `path`
    is a GGUF, part 1 of one, or the folder of a checkpoint; `files` are those that hold the weights.

    `type` is None where nobody says it, `size` a published size or None, `repository` "OWNER/NAME" or None. `digest`
    is the SHA-256 of the file where the store knows it. With a `problem` the model cannot be opened: the words say
    what is missing and what brings it back."""

    store: str
    name: str
    path: Path
    files: tuple[Path, ...]
    type: str | None = None
    size: str | None = None
    repository: str | None = None
    also: tuple[str, ...] = ()
    is_checkpoint: bool = False
    is_ours: bool = False
    digest: str | None = None
    problem: str | None = None

    @property
    def bytes(self) -> int:
        return total_bytes(self.files)

    @property
    def names(self) -> frozenset[str]:
        """All that the store calls it, in small letters."""
        return frozenset(name.lower() for name in (self.name, *self.also))

    def is_called(self, text: str) -> bool:
        """In any case."""
        return text.lower() in self.names

    def answers_to(self, name: Name) -> bool:
        """Whether it is of the size or repository; a type that was said has to be its own, or one to convert to."""
        if isinstance(name, SizeName):
            meant = self.size == name.size
        elif isinstance(name, RepositoryName):
            meant = self.repository is not None and self.repository.lower() == name.repository.lower()
        else:
            return False
        return meant and (name.type is None or self.is_checkpoint or self.type == name.type)

    def is_same_file(self, other: "Stored") -> bool:
        """The same bytes: one file under two names, or two with one digest."""
        if self.digest is not None and self.digest == other.digest:
            return True
        try:
            return self.path.samefile(other.path)
        except OSError:
            return False
