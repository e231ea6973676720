"""GGUFs in LM Studio's folder, as `publisher/model/file.gguf` (lmstudio.ai, "Import Models")."""

from collections.abc import Iterator
from pathlib import Path

from qwen35_local.hub.contents import entries, first_line, ggufs, is_file, is_folder, read_json
from qwen35_local.hub.names import size_named
from qwen35_local.hub.places import user_folder
from qwen35_local.hub.stored import Stored

STORE = "LM Studio"


def folders() -> list[Path]:
    """Under the home that `~/.lmstudio-home-pointer` names, `~/.lmstudio` and `~/.cache/lm-studio`: `models`, or the
    folder that the settings there name; where they exist."""
    own = user_folder()
    if own is None:
        return []
    pointed = first_line(own / ".lmstudio-home-pointer")
    homes = [Path(pointed)] if pointed and "\0" not in pointed else []
    homes += [own / ".lmstudio", own / ".cache" / "lm-studio"]
    found = []
    for home in homes:
        moved = read_json(home / "settings.json").get("downloadsFolder")
        found += [Path(moved)] if isinstance(moved, str) and moved and "\0" not in moved else []
        found.append(home / "models")
    return list({path.resolve(): path for path in found if path.is_absolute() and is_folder(path)}.values())


def models() -> Iterator[Stored]:
    for root in folders():
        for publisher in entries(root):
            for folder in entries(publisher):
                files = [path for path in entries(folder) if is_file(path)]
                for model in ggufs(files):
                    name = f"{publisher.name}/{folder.name}"
                    yield Stored(
                        STORE,
                        f"{name}/{model.path.name}",
                        model.path,
                        model.files,
                        type=model.type,
                        size=size_named(folder.name),
                        repository=name,
                        also=(model.path.name, model.path.stem),
                        problem=model.problem,
                    )
