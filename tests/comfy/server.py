"""Finds a ComfyUI and starts it with this pack as custom_nodes/difffae.

Which one: COMFYUI_DIR (a ComfyUI folder; COMFYUI_FLOOR_DIR for the oldest supported one) run by COMFYUI_PYTHON (default: this Python);
without them the folder that scripts/setup_comfyui.py made. COMFYUI_FRONTEND: the page of another release than ComfyUI 0.30 brings, as the
folder `static` of a comfyui-frontend-package.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import setup_comfyui
from client import ROOT, Comfy

SETUP = "python scripts/setup_comfyui.py"


class Missing(Exception):
    """There is no ComfyUI (or browser) to test with; the message says how to get one."""


@dataclass(frozen=True)
class Installation:
    tree: Path
    python: Path
    frontend: Path | None = None


def find_frontend() -> Path | None:
    """The page that COMFYUI_FRONTEND names, or None."""
    if not (name := os.environ.get("COMFYUI_FRONTEND")):
        return None
    folder = Path(name).resolve()
    if not (folder / "index.html").is_file():
        raise Missing(f"COMFYUI_FRONTEND={folder} is no page of ComfyUI: it has no index.html")
    return folder


def find(floor: bool = False) -> Installation:
    """The ComfyUI to test with; `floor`: the oldest supported one, always with its own page."""
    frontend = None if floor else find_frontend()
    variable = "COMFYUI_FLOOR_DIR" if floor else "COMFYUI_DIR"
    if os.environ.get("COMFYUI_DIR"):
        if not os.environ.get(variable):
            raise Missing(f"COMFYUI_DIR is set, but {variable} is not")
        tree = Path(os.environ[variable]).resolve()
        if not (tree / "main.py").is_file():
            raise Missing(f"{variable}={tree} is no ComfyUI folder: it has no main.py")
        return Installation(tree, Path(os.environ.get("COMFYUI_PYTHON") or sys.executable), frontend)
    folder = setup_comfyui.DEFAULT_FOLDER
    if not setup_comfyui.is_finished(folder):
        raise Missing(f"no ComfyUI, or not of the present requirements, in {folder.name}/: run `{SETUP}`, or set COMFYUI_DIR")
    tree = setup_comfyui.tree(folder, setup_comfyui.FLOOR if floor else setup_comfyui.CURRENT)
    return Installation(tree, setup_comfyui.venv_python(folder), frontend)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def start(installation: Installation, base: Path, timeout: float = 600, flags: Sequence[str] = ()) -> Iterator[Comfy]:
    """Runs ComfyUI with `base` as its base directory (models, input, output, ...) and further flags of its command line, from when it
    answers until the block ends."""
    for name in ("custom_nodes", "input", "output", "models", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    user = base / "user" / "default"  # what the page asks for, so that a request that fails means something
    for name in ("workflows", "subgraphs"):
        (user / name).mkdir(parents=True, exist_ok=True)
    (user / "user.css").touch()
    (user / "comfy.templates.json").write_text("[]")
    (base / "custom_nodes" / "difffae").symlink_to(ROOT, target_is_directory=True)
    log, port = base / "server.log", _free_port()
    command = [
        *(str(installation.python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)),
        *("--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"),
        *("--preview-method", "latent2rgb"),
        *(("--front-end-root", str(installation.frontend)) if installation.frontend else ()),
        *flags,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=installation.tree, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    client = Comfy(f"http://127.0.0.1:{port}", base, log, process.pid)
    try:
        _wait_until_ready(process, client, timeout)
        yield client
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running() -> Iterator[Comfy]:
    """For scripts: the ComfyUI to test with, in a base directory that goes with it. Ends the program if there is none."""
    try:
        installation = find()
    except Missing as error:
        raise SystemExit(str(error)) from None
    with tempfile.TemporaryDirectory() as base, start(installation, Path(base)) as client:
        yield client


def _wait_until_ready(process: subprocess.Popen, client: Comfy, timeout: float) -> None:
    end = time.monotonic() + timeout
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"ComfyUI ended with status {process.returncode}; {client.log} ends with\n{client.log_text()[-4000:]}")
        try:
            urllib.request.urlopen(client.url + "/system_stats", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(
                    f"ComfyUI did not answer in {timeout:.0f} s; {client.log} ends with\n{client.log_text()[-4000:]}"
                ) from None
            time.sleep(0.1)
