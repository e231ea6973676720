"""Splits a GGUF into files as llama-gguf-split does: all metadata in the first, the tensors in turn."""

from dataclasses import replace
from pathlib import Path

from gguf_bytes import I32, U16, File, value


def names(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def parts(file: File, count: int) -> list[File]:
    """The tensors one behind the other, each part its share."""
    share = -(-len(file.tensors) // count)
    total = len(file.tensors)
    return [
        replace(
            file,
            values=[
                *(file.values if number == 0 else []),
                ("split.no", value(U16, number)),
                ("split.count", value(U16, count)),
                ("split.tensors.count", value(I32, total)),
            ],
            tensors=file.tensors[number * share : (number + 1) * share],
        )
        for number in range(count)
    ]


def write(folder: Path, stem: str, files: list[File]) -> list[Path]:
    paths = [folder / name for name in names(stem, len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file.build())
    return paths
