"""The rooms of the library: who may import whom, and how large they are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from places import ROOT

# a room may import from the rooms before it; `vocabulary` and the package's own version are open to all
ROOMS = (
    "common",
    "head",
    "diffusion",
    "faces",
    "source",
    "estimation",
    "carry",
    "person",
    "swap",
    "edit",
    "report",
    "video",
    "convert",
    "lab.bench",
    "lab.losses",
    "lab.people",
    "lab.studio",
    "lab.prepare",
    "lab.videos",
    "lab.training",
    "lab.tables",
    "lab.card",
    "lab.retrain",
    "cli",
)
LARGEST = 16  # files of a room, beside its __init__


@cache
def modules() -> dict[tuple[str, ...], Path]:
    """Module of the library, as names below `difffae`, -> its file."""
    files = sorted((ROOT / "difffae").rglob("*.py"))
    return {path.relative_to(ROOT / "difffae").with_suffix("").parts: path for path in files}


def room_of(module: tuple[str, ...]) -> str | None:
    """The room that a module lies in; None for those of the package itself."""
    return next((room for room in ROOMS if module[: room.count(".") + 1] == tuple(room.split("."))), None)


def imports(module: tuple[str, ...], path: Path, top: bool = False) -> set[tuple[str, ...]]:
    """What a module imports of the library; top: only what it imports when it is itself imported."""
    known, found = modules(), set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(node) for part in tree.body if isinstance(part, ast.If | ast.FunctionDef | ast.ClassDef) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or (top and id(node) in inside):
            continue
        package = module[:-1]
        base = package[: len(package) - node.level + 1] + tuple((node.module or "").split(".") if node.module else ())
        for name in [(*base, alias.name) for alias in node.names]:
            found.add(name if name in known else base)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    for module, path in modules().items():
        if room_of(module) != room:
            continue
        for other in imports(module, path):
            target = room_of(other)
            assert target is None or ROOMS.index(target) <= ROOMS.index(room), f"{'/'.join(module)} imports {'.'.join(other)}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_from_where_it_imports(room: str) -> None:
    path = ROOT / "difffae" / room.replace(".", "/") / "__init__.py"
    told = re.findall(r"\w+", (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("Imports from ")[2])
    used = {room_of(other) for module, path in modules().items() if room_of(module) == room for other in imports(module, path)}
    missing = {target.split(".")[0 if room == "cli" else -1] for target in used - {room, None} if target} - set(told)
    assert told, f"{room}: say what it holds, and 'Imports from ...'"
    assert not missing


@pytest.mark.slow
def test_no_module_imports_itself_around_a_circle() -> None:
    arrows = {module: {other for other in imports(module, path, top=True) if other in modules()} for module, path in modules().items()}
    left = dict(arrows)
    while left:
        free = [module for module, others in left.items() if not others & left.keys() - {module}]
        assert free, f"these import one another: {sorted('.'.join(module) for module in left)}"
        for module in free:
            del left[module]


def test_rooms_are_small() -> None:
    for room in ROOMS:
        count = sum(room_of(module) == room and module[-1] != "__init__" for module in modules())
        assert 0 < count <= LARGEST, f"{room} has {count} files"


def test_files_are_short() -> None:
    files = [path for folder in ("difffae", "nodes", "scripts") for path in (ROOT / folder).rglob("*.py")]
    long = {path.name: count for path in files if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long
