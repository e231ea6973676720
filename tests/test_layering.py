"""Who may include or import whom. The tables are CONTRIBUTING's; arrows point down only."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CXX_LAYERS = {
    "bindings": {
        "sequence",
        "calibration",
        "devices",
        "quantise",
        "model",
        "dialect",
        "gguf",
        "backend",
        "tensor",
        "base",
    },
    "sequence": {"model", "backend", "tensor", "base"},
    "calibration": {"model", "backend", "quantise", "tensor", "base"},
    "model": {"backend", "dialect", "gguf", "tensor", "base"},
    "devices": {"backend", "tensor", "base"},
    "quantise": {"tensor", "base"},
    "dialect": {"gguf", "tensor", "base"},
    "gguf": {"tensor", "base"},
    "backend": {"tensor", "base"},
    "tensor": {"base"},
    "base": set(),
}

# The modules through which anything from outside is read and refused, and files are written.
OUTSIDE = {"json_file", "bounded_file", "other_file", "fields", "partial_file", "errors"}

# Single modules without which the rest would repeat itself.
ALONE = {"process", "progress", "units"}

PYTHON_LAYERS = {
    "cli": {
        "server",
        "remote",
        "api",
        "plan",
        "engine",
        "hub",
        "chat",
        "text",
        "quantize",
        "models",
        "_core",
        "process",
        "progress",
        "units",
        *OUTSIDE,
    },
    "server": {"api", "engine", "hub", "chat", "text", "quantize", "models", "_core", "progress", "units", *OUTSIDE},
    "api": {"plan", "engine", "hub", "chat", "quantize", "models", "_core", "progress", "units", *OUTSIDE},
    "remote": {"engine", "chat", "text", "progress", *OUTSIDE},
    "plan": {"quantize", "models", "_core", "units", *OUTSIDE},
    "engine": {"chat", "text", "models", "_core", "process", "progress", *OUTSIDE},
    "quantize": {"chat", "text", "models", "_core", "progress", *OUTSIDE},
    "hub": {"models", "_core", "progress", *OUTSIDE},
    "chat": OUTSIDE,
    "text": OUTSIDE,
    "models": OUTSIDE,
    "json_file": {"bounded_file", "other_file", "errors"},
    "other_file": set(),
    "partial_file": {"errors"},
    "bounded_file": {"errors"},
    "fields": {"errors"},
    "errors": set(),
    "process": set(),
    "progress": set(),
    "units": {"errors"},
}

# Outside libraries and the only layer that may import them. models/demo/training is not part of the package.
THIRD_PARTY = {
    "httpx2": "remote",
    "starlette": "server",
    "uvicorn": "server",
    "msgspec": "server",
    "llguidance": "engine",
    "rich": "cli",
    "typer": "cli",
    "prompt_toolkit": "cli",
    "gguf": "quantize",
    "tokenizers": "text",
    "sentencepiece": "text",
    "jinja2": "chat",
    "platformdirs": "hub",
    "huggingface_hub": "hub",
}
PYTHON_FOLDERS = {"": ROOT / "python/qwen35_local", "quantize": ROOT / "quantize", "models": ROOT / "models"}


def cxx_edges() -> list[tuple[Path, str, str]]:
    edges = []
    for path in sorted((ROOT / "csrc").rglob("*")):
        if path.suffix in {".h", ".cpp", ".cu", ".cuh", ".mm"}:
            layer = path.relative_to(ROOT / "csrc").parts[0]
            for target in re.findall(r'^#include "(\w+)/', path.read_text(), re.MULTILINE):
                edges.append((path, layer, target))
    return edges


def python_files() -> list[tuple[Path, str]]:
    files = []
    for prefix, folder in PYTHON_FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder)
            if relative.parts[:2] == ("demo", "training"):
                continue
            layer = prefix or relative.parts[0].removesuffix(".py")
            files.append((path, "cli" if layer == "__main__" else layer))
    return files


def imported(path: Path, *, inside: bool = True) -> set[str]:
    """Names that a module imports, `inside` functions too."""
    tree = ast.parse(path.read_text())
    if not inside:
        tree = OutsideFunctions().visit(tree)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


class OutsideFunctions(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None


def test_includes_point_down() -> None:
    edges = cxx_edges()
    assert edges
    wrong = [
        f"{path.relative_to(ROOT)} includes {target}/"
        for path, layer, target in edges
        if target != layer and target not in CXX_LAYERS[layer]
    ]
    assert not wrong, "\n".join(wrong)


def test_devices_do_not_include_each_other() -> None:
    """What two of them need lies beside them, in csrc/devices itself, which includes none of them."""
    devices = ROOT / "csrc/devices"
    names = {path.name for path in devices.iterdir() if path.is_dir()}
    assert {"cpu", "cuda", "fake"} <= names
    wrong = [
        f"{path.relative_to(ROOT)} includes devices/{target}/"
        for path in sorted(devices.rglob("*"))
        if path.suffix in {".h", ".cpp", ".cu", ".cuh", ".mm"}
        for target in re.findall(r'^#include "devices/(\w+)/', path.read_text(), re.MULTILINE)
        if target in names and target != path.relative_to(devices).parts[0]
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_point_down() -> None:
    wrong = []
    for path, layer in python_files():
        if layer == "__init__":
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "qwen35_local" and len(parts) > 1:
                target = parts[1]
                if target not in {layer, "__version__"} and target not in PYTHON_LAYERS[layer]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_one_that_imports_it() -> None:
    """Directly or by way of others, for type checking included; imports inside functions are not looked at."""
    modules = {f"qwen35_local.{'.'.join(name)}": imported(path, inside=False) for name, path in python_modules()}
    below = {
        name: {target for used in names if (target := owner(used, modules))} - {name} for name, names in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in below[name]:
                visit(target, (*way, name))
            done.add(name)

    for name in modules:
        visit(name, ())


def python_modules() -> list[tuple[tuple[str, ...], Path]]:
    """Every module of the package but its `__init__`s, by its name below `qwen35_local`."""
    return [
        ((*((prefix,) if prefix else ()), *path.relative_to(folder).with_suffix("").parts), path)
        for prefix, folder in PYTHON_FOLDERS.items()
        for path in sorted(folder.rglob("*.py"))
        if path.name != "__init__.py" and "training" not in path.parts
    ]


def owner(name: str, modules: dict[str, set[str]]) -> str | None:
    """The module that an imported name is, or is in."""
    return name if name in modules else head if (head := name.rpartition(".")[0]) in modules else None


def test_each_library_has_one_layer() -> None:
    wrong = []
    for path, layer in python_files():
        for name in imported(path):
            owner = THIRD_PARTY.get(name.split(".")[0])
            if owner is not None and owner != layer:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}, which belongs to {owner}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "library",
    ["gguf", "llguidance", "tokenizers", "sentencepiece", "jinja2", "platformdirs", "huggingface_hub", "httpx2"],
)
def test_library_is_imported_in_one_module(library: str) -> None:
    users = [path for path, _ in python_files() if any(n.split(".")[0] == library for n in imported(path))]
    assert len(users) == 1, users


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by it, and refuses the second one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
