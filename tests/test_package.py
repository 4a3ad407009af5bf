"""The package itself: an instant import and the public names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from places import ROOT

import difffae


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    assert run("import sys, difffae; print([n for n in ('torch', 'numpy', 'PIL', 'diffusers') if n in sys.modules])") == "[]"


@pytest.mark.slow
def test_importing_the_library_starts_no_cuda():
    assert run("import difffae.edit.editor, torch; print(torch.cuda.is_initialized())") == "False"


def test_public_names_are_those_of_their_modules():
    for name in set(difffae.__all__) - {"__version__"}:
        own = getattr(difffae, name)
        assert own.__name__ == name
        assert own is getattr(sys.modules[own.__module__], name)
    wanted = (
        "Adjustments DiffFAE DiffFAEError Edit EditResult FaceAttributes Faces Portrait RegionSwap Sampling compose read_image write_image"
    )
    assert set(difffae.__all__) == {*wanted.split(), "__version__"}
    assert dir(difffae) == sorted(difffae.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        difffae.nothing_such  # noqa: B018


def test_notice_is_what_the_parts_say_and_names_every_asset():
    if not (ROOT / "NOTICE").is_file():
        pytest.skip("an installed package has no NOTICE beside it")
    result = subprocess.run([sys.executable, "scripts/build_notice.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    text = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assets = [path.name for path in (ROOT / "difffae" / "assets").iterdir() if path.is_file() and not path.name.startswith(("__", "."))]
    assert len(assets) >= 6
    assert not [name for name in assets if f"difffae/assets/{name}" not in text]


def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    path = ROOT / "pyproject.toml"
    if not path.is_file():
        pytest.skip("an installed package has no pyproject.toml beside it")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_registry_metadata_is_complete():
    data = project()
    comfy = data["tool"]["comfy"]
    assert (comfy["PublisherId"], comfy["DisplayName"], comfy["requires-comfyui"]) == ("difffae", "DiffFAE", ">=0.24.0")
    # the registry reads the version from this file by a regular expression
    version = ROOT / comfy["version"]["path"]
    assert f'__version__ = "{difffae.__version__}"' in version.read_text(encoding="utf-8").splitlines()
    repository = data["project"]["urls"]["Repository"]
    assert data["project"]["urls"]["Issues"] == f"{repository}/issues"
    raw = repository.replace("github.com", "raw.githubusercontent.com") + "/main/"
    sizes = {}
    for key in ("Icon", "Banner"):
        assert comfy[key].startswith(raw)
        with Image.open(ROOT / comfy[key].removeprefix(raw)) as picture:
            sizes[key] = picture.size
    assert sizes["Icon"][0] == sizes["Icon"][1] <= 400
    assert sizes["Banner"][0] * 9 == sizes["Banner"][1] * 21


def listed(*options: str) -> set[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs the git repository")
    answer = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return set(filter(None, answer.stdout.split("\0")))


def test_the_packed_archive_holds_all_that_runs_and_nothing_else():
    dropped = listed("-c", "-i", "--exclude-from=.comfyignore")
    kept = listed() - dropped
    shown = {"README.md", "LICENSE", "NOTICE", "MODEL_CARD.md", "CHANGELOG.md", "__init__.py", "pyproject.toml", "requirements.txt"}
    folders = {"difffae", "nodes", "web", "locales", "workflows", "subgraphs", "docs"}
    assert sorted(name for name in kept if "/" not in name) == sorted(shown)
    assert {name.split("/")[0] for name in kept if "/" in name} == folders
    assert "difffae/assets/open-256.safetensors" in kept
    needed = tuple(f"{folder}/" for folder in folders - {"docs"})
    # of what runs only the researchers' room is left out, without which the rest works (below)
    # and the mesh of its rendered people
    own = {"difffae/assets/hm08_base.safetensors", *listed("difffae/lab/")}
    assert {name for name in dropped if name.startswith(needed)} == {"locales/zh/translated.json", *own}
    # every pattern drops something: one with a mistake drops nothing
    patterns = [line for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for pattern in patterns:
        assert listed("-c", "-i", f"--exclude={pattern}"), pattern


def test_what_is_put_on_a_users_disk():
    """55 MB at most: the archive's files; and what a shallow clone fetches, which is these and tests, compressed. (Git keeps that beside
    the files, so a clone takes about 110 MB in all: weights do not compress.)"""
    kept = listed() - listed("-c", "-i", "--exclude-from=.comfyignore")
    assert sum((ROOT / name).stat().st_size for name in kept) < 55e6
    packed = subprocess.run(["git", "archive", "--format=zip", "-9", "HEAD"], cwd=ROOT, capture_output=True, timeout=300, check=True)
    assert len(packed.stdout) < 55e6
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "git clone --depth 1 " in readme


def test_readme_names_every_node_and_workflow():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    nodes = re.findall(r'node_id="(DiffFAE\w+)"', "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py")))
    rows = re.findall(r"^\| (\w+) \|", text, re.MULTILINE)
    assert sorted(row for row in rows if row.startswith("DiffFAE")) == sorted(nodes)
    workflows = [path.stem for path in (ROOT / "workflows").glob("*.json")]
    assert sorted(row for row in rows if row[0].isdigit()) == sorted(workflows)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.slow
def test_what_comfyui_users_get_works_without_the_researchers_rooms(tmp_path: Path):
    """The archive of the registry: all that .comfyignore leaves."""
    rules = [line.strip("/") for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines() if line.startswith("/")]
    assert "difffae/lab" in rules
    left_out = shutil.ignore_patterns("lab", "hm08_base.safetensors", "__pycache__", "*.pyc")
    shutil.copytree(ROOT / "difffae", tmp_path / "difffae", ignore=left_out)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def call(*line: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "difffae", *line], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert call("edit").returncode == 0
    assert (tmp_path / "out.png").is_file()
    missing = call("train", "slots")
    assert missing.returncode == 2
    assert missing.stderr.splitlines() == ["difffae: train: is not part of this installation; get the whole repository"]
