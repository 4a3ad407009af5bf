"""The pack inside this process, without a server: nodes are called with tensors, as ComfyUI's executor does.

`pack` (fixture, session) is a Pack. It needs pytest to run by the Python that ComfyUI runs by, as scripts/setup_comfyui.py arranges it.

    pack.run("DiffFAECropFace", image=picture) -> tuple of outputs; widgets that are left out take their defaults, and the inputs model,
                                                  vae and difffae what Load DiffFAE gives for open-256
    pack.module("frames")                                      -> a module of nodes/; pack.library("faces.crop") of difffae/
    pack.model, pack.vae, pack.bundle                          those three
    pack.import_seconds                                        CPU time of loading the pack, as ComfyUI does at its start
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from server import Installation

ROOT = Path(__file__).resolve().parents[2]
NAME = "difffae_pack"
SHARED = ("server", "app", "nodes")  # module names that ComfyUI and this repository both have


class Pack:
    def __init__(self, installation: Installation, base: Path):
        ours = {name: sys.modules.pop(name) for name in SHARED if name in sys.modules}
        arguments, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
        sys.path.insert(0, str(installation.tree))
        try:
            importlib.import_module("comfy.options").enable_args_parsing()
            importlib.import_module("nodes")
            prompt_server = importlib.import_module("server").PromptServer
            # what the pack asks of it: a place for the previews of Adjust Face Attributes, and no routes
            prompt_server.instance = SimpleNamespace(app={}, routes=SimpleNamespace(post=lambda path: lambda work: work))
            start = time.process_time()
            spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
            sys.modules[NAME] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[NAME])
            with ThreadPoolExecutor(1) as apart:  # in this thread a browser test may have left its event loop running
                nodes = apart.submit(asyncio.run, _start(sys.modules[NAME])).result()
            self.import_seconds = time.process_time() - start
            self.nodes = {node.define_schema().node_id: node for node in nodes}
            for path in sorted((ROOT / "nodes").glob("*.py")):  # now, because later the names in SHARED are the tests' own again
                self.module(path.stem if path.stem != "__init__" else "")
        finally:
            sys.argv = arguments
            sys.path.remove(str(installation.tree))
            sys.path.append(str(installation.tree))
            sys.modules.update({name: module for name, module in ours.items() if name != "nodes"})
        self.folders = importlib.import_module("folder_paths")
        self.loaded: dict[str, Any] = {}
        self.model, self.vae, self.bundle = self.run("DiffFAELoader")
        self.loaded = {"model": self.model, "vae": self.vae, "difffae": self.bundle}

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{NAME}.nodes.{name}".rstrip("."))

    def library(self, name: str) -> ModuleType:
        return importlib.import_module(f"{NAME}.difffae.{name}")

    def run(self, node: str, hidden: dict[str, Any] | None = None, **inputs: Any) -> tuple:
        """Outputs of one execution. Whatever the node raises comes out as it is."""
        return self.output(node, hidden, **inputs).result

    def output(self, node: str, hidden: dict[str, Any] | None = None, **inputs: Any) -> Any:
        """The same with its `ui`. hidden: {"prompt": ..., "unique_id": ..., "extra_pnginfo": ...}."""
        from comfy_api.v0_0_2 import io

        kind = self.nodes[node]
        widgets = [own for own in kind.define_schema().inputs if not own.optional and getattr(own, "default", None) is not None]
        defaults = {own.id: own.default for own in widgets}
        wired = {own.id for own in kind.define_schema().inputs if not own.optional}
        defaults |= {name: value for name, value in self.loaded.items() if name in wired}
        clone = kind.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden[key]: value for key, value in (hidden or {}).items()}})
        with torch.inference_mode():
            return clone.EXECUTE_NORMALIZED(**{**defaults, **inputs})


async def _start(module: ModuleType) -> list[type]:
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    return await extension.get_node_list()


def missing_for(installation: Installation) -> str | None:
    """Why the pack cannot be loaded here, or None."""
    if Path(sys.executable).absolute() != Path(installation.python).absolute():
        return f"run pytest by ComfyUI's own Python, {installation.python}"
    return None
