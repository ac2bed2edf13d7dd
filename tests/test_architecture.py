"""Who may import whom: islands do not know each other, the ground floor knows nobody, hooks live in one file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "translucid"

GROUND = {"errors": 0, "types": 1, "tensors": 2, "config": 2, "maps": 3}
ISLANDS = {
    "io",
    "compress",
    "models",
    "losses",
    "explain",
    "evaluate",
    "audit",
    "phantom",
    "export",
    "report",
    "viewer",
}
WIRING = {"data": 5, "jobs": 6, "train": 6, "study": 6, "pipeline": 7, "cli": 8, "__main__": 9}
LEVEL = GROUND | dict.fromkeys(ISLANDS, 4) | WIRING | {"__init__": -1}
LIGHT_IO = {
    "manifest",
    "layouts",
    "splits",
    "pseudonym",
    "table",
    "fence",
    "cells",
    "columns",
    "codes",
    "coding",
    "index",
}
TORCH_FREE = {"errors", "types", "config", "report", "viewer", "cli", "study", "export"} | {f"io.{x}" for x in LIGHT_IO}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """The top-level module or island a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, lazy: bool) -> set[str]:
    """Absolute names a file imports; `lazy` includes the imports inside functions, TYPE_CHECKING never counts."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.Import):
                found.update(a.name for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                found.update([child.module or "", *(f"{child.module}.{a.name}" for a in child.names)])
            walk(child)

    walk(ast.parse(path.read_text("utf-8")))
    return found


def ours(names: set[str]) -> set[str]:
    return {n.split(".")[1] for n in names if n.startswith("translucid.") and n.split(".")[1] in LEVEL}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    here = room(path)
    assert here in LEVEL, f"{here} has no place in the table of levels"
    for there in ours(imports(path, lazy=True)) - {here}:
        assert LEVEL[there] < LEVEL[here] or here == "__init__", f"{path.name} imports {there}"


def test_torch_stays_out_of_light_rooms() -> None:
    heavy = {"torch", "monai", "lightning_fabric", "captum", "translucid.tensors", "translucid.maps"}
    for path in modules():
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if any(name == t or name.startswith(t + ".") for t in TORCH_FREE):
            names = imports(path, lazy=name.split(".")[0] in ("report", "viewer"))
            assert not {n for n in names if n in heavy or n.split(".")[0] in heavy}, name


def test_hooks_live_in_one_file() -> None:
    for path in modules():
        if path.relative_to(SOURCE).as_posix() != "explain/split.py":
            text = path.read_text("utf-8")
            assert "register_forward" not in text, path
            assert "register_full_backward" not in text, path


def test_no_global_seed_no_pickle() -> None:
    for path in modules():
        text = path.read_text("utf-8")
        for word in ("torch.manual_seed(", "np.random.seed(", "random.seed(", "import pickle", "yaml.load("):
            assert word not in text, f"{path}: {word}"
        assert "torch.load(" not in text, f"{path}: weights are safetensors"


def test_files_stay_short() -> None:
    for path in [*modules(), *sorted(SOURCE.parent.parent.glob("tests/**/*.py"))]:
        assert len(path.read_text("utf-8").splitlines()) <= 400, path
