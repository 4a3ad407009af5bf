"""Whatever is imported is declared, and what is missing is said in one line with the pip command."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from difffae.cli import COMMANDS
from difffae.common.needs import EXTRAS, PACKAGES, missing

SOURCE = ROOT / "difffae" / "assets" / "source.png"
BLOCKED = """
import sys
blocked, line = sys.argv[1], sys.argv[2:]
sys.modules[blocked] = None
from difffae.cli import main
sys.exit(main(line))
"""


def declared() -> tuple[set[str], dict[str, set[str]]]:
    """What requirements.txt and each extra of pyproject.toml name, without versions."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[<>=\[ ]", line)[0].lower() for line in lines if line.strip() and not line.startswith(("#", "-"))}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra: names(lines) for extra, lines in project["optional-dependencies"].items()}
    return names((ROOT / "requirements.txt").read_text().splitlines()), extras


def imported(folder: str) -> dict[str, str]:
    """Top names that a folder's files import from elsewhere -> one of the files."""
    own = {"difffae", *(path.stem for place in ("scripts", "tests/comfy") for path in (ROOT / place).glob("*.py"))}
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in own:
                    found[top] = f"{path.relative_to(ROOT)}"
    return found


def test_every_import_is_declared() -> None:
    required, extras = declared()
    for name, file in imported("difffae").items():
        package = PACKAGES.get(name, name).lower()
        if package not in required:
            # torch brings typing_extensions along, and pytorch3d has no package for current versions of torch
            assert name in EXTRAS or name in ("typing_extensions", "pytorch3d"), f"{file} imports {name}, which nothing declares"
    for name, extra in EXTRAS.items():
        assert name in extras[extra], f"{name} is not in the extra '{extra}'"
    development = (ROOT / "requirements-dev.txt").read_text()
    for extra in ("train", "prepare", "evaluate", "figures"):  # what CI's tests run with
        assert all(name in development for name in extras[extra])


def test_scripts_say_what_they_lack() -> None:
    """Each that imports more than Python's own begins with `needs`; what is not in requirements-dev.txt, its head says how to install."""
    development = (ROOT / "requirements-dev.txt").read_text() + (ROOT / "requirements.txt").read_text()
    for name, file in imported("scripts").items():
        head = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or ""
        assert PACKAGES.get(name, name) in development or name.replace("_", "-") in head, f"{file} imports {name}"
    for path in (ROOT / "scripts").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "__main__" in text and re.search(r"^(import|from) (difffae|torch|numpy|scipy|PIL)\b", text, re.MULTILINE):
            first = re.search(r"^(?:import|from) (?!__future__)(\S+)", text, re.MULTILINE)
            assert first is not None
            assert first[1] == "needs", path.name


def test_line_names_command_package_and_pip() -> None:
    line = str(missing("prepare people", ModuleNotFoundError(name="scipy.spatial"), "leave it"))
    assert line == "prepare people: needs scipy, which is not installed; pip install scipy (or the extra 'prepare'), or leave it"
    assert str(missing("edit", ModuleNotFoundError(name="PIL"))) == "edit: needs PIL, which is not installed; pip install pillow"


def run_without(package: str, *line: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCKED, package, *map(str, line)], cwd=ROOT, capture_output=True, text=True, timeout=300)


NEEDED = [  # the least that each command parses
    "edit", "animate --driving b.mp4", "swap", "render", "report {picture}",
    "prepare portraits {here} --output {out}", "train slots", "evaluate --table speed",
    "reconstruct --model a --clips b --output c.png", "figure comparison", "convert flame {picture} --output b.safetensors", "bench",
    "assemble --first-stage a --license x --source y --output z.safetensors",
]  # fmt: skip


def test_every_command_says_that_torch_is_missing(tmp_path: Path) -> None:
    names = {module.__name__.rpartition(".")[2] for module in COMMANDS}
    assert names | {"assemble"} == {line.split()[0] for line in NEEDED}
    lines = [line.format(here=ROOT / "tests", out=tmp_path / "out", picture=SOURCE) for line in NEEDED]
    code = BLOCKED.replace("sys.exit(main(line))", "print([main(one.split()) for one in line])")
    run = [sys.executable, "-c", code, "torch", *lines]
    done = subprocess.run(run, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.strip() == str([2] * len(lines)), done.stderr
    said = done.stderr.splitlines()
    assert [line.partition(": needs torch, which is not installed; pip install torch")[0] for line in said] == [
        f"difffae: {line.split()[0]}" for line in lines
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("scipy", "prepare portraits {here} --output {out}"),
        ("scipy", "prepare people {here} --output {out}"),
        ("ray", "prepare videos {videos} --output {out} --ray-address 127.0.0.1:1"),
        ("av", "prepare videos {videos} --output {out}"),
        ("accelerate", "train slots --num-processes 2"),
        ("safetensors", "edit --output {out}.png"),
    ],
)
def test_a_missing_package_is_one_line(package: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "videos" / "id" / "v").mkdir(parents=True)
    (tmp_path / "videos" / "id" / "v" / "a.mp4").touch()
    places = {"here": ROOT / "difffae" / "assets", "out": tmp_path / "out", "videos": tmp_path / "videos"}
    done = run_without(package, *(word.format(**places) for word in line.split()))
    assert done.returncode == 2
    assert f"needs {package}, which is not installed; pip install {package}" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
